"""One reasoning-gym generator with the difficulty levels of its curriculum.

A specification reads ``name`` or ``name(key=value, ...)``. Keys are the generator's own parameters (fixed then, and
out of the curriculum's reach), and three of taskdef's:

    level=N                every difficulty attribute starts at level N (default 1, or the nearest level it has)
    level.ATTRIBUTE=N      one attribute starts at level N
    about=WORDS            further words that describe the generator, for passages to be matched with

Values are YAML scalars or flow lists: ``allow_negation=false``, ``tasks=[is_leap_year]``.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from dataclasses import dataclass, field
from typing import Any

import yaml

from taskdef.errors import InstructorError
from taskdef.instruct.words import stems
from taskdef.readable import did_you_mean, nearest

_PART = re.compile(r"(?P<name>[a-z0-9_]+)\s*(?:\((?P<arguments>.*)\))?", re.DOTALL)
_SIGNS = {
    "+": "plus add addition sum total",
    "-": "minus subtract subtraction difference",
    "*": "times multiply multiplication product",
    "/": "divide division quotient",
}
_COMMONPLACE = frozenset(
    stems(
        "generate generator task exercise problem puzzle dataset configurable difficulty complexity random "
        "parameters configuration popular leetcode https com maximum minimum number attribute level"
    )
)
"""Words that reasoning-gym's descriptions of most generators share, so that they tell none of them apart."""


@dataclass(frozen=True)
class Question:
    """What a generator gives: a question and its right answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Generator:
    """A generator, its fixed parameters and the levels at which it starts."""

    name: str
    fixed: dict[str, Any]
    start: dict[str, int]
    """Level of each of the curriculum's attributes in an initial sample; empty where there is no curriculum."""
    highest: dict[str, int] = field(default_factory=dict)
    """The last level of each attribute."""
    frozen: frozenset[str] = frozenset()
    """Attributes held in place by a fixed parameter."""
    words: frozenset[str] = frozenset()
    """Stems of the words that name and describe it."""

    def movable(self, levels: dict[str, int], step: int) -> list[str]:
        """The attributes that can move by ``step`` (+1 or -1) from ``levels``, in the curriculum's order."""
        return [
            name
            for name, level in levels.items()
            if name in self.highest and name not in self.frozen and 0 <= level + step <= self.highest[name]
        ]

    def make(self, levels: dict[str, int], seed: int, position: int = 0) -> Question:
        """One question at the given levels. The same arguments always give the same question.

        An attribute that is a range covers everything from its lowest level to the given one, as the curriculum
        means it; one that was moved above its start covers its new level only, or most "harder" questions would
        be no harder. Raises whatever the generator raises.
        """
        from reasoning_gym import factory

        config = self._configuration(levels, seed=seed, size=position + 1)
        if hasattr(config, "validate"):
            config.validate()
        entry = factory.DATASETS[self.name][0](config)[position]
        if entry.get("answer") is None:
            raise ValueError("the generator accepts several answers and names none")
        return Question(question=str(entry["question"]).strip(), answer=str(entry["answer"]))

    def _configuration(self, levels: dict[str, int], **settings: Any) -> Any:
        from reasoning_gym import factory
        from reasoning_gym.coaching.base_curriculum import DefaultCurriculumContext, RangeAttributeMode

        fixed = {**self.fixed, **settings}
        if not levels:
            return factory.DATASETS[self.name][1](**fixed)
        curriculum: Any = factory.create_curriculum(self.name)
        for name, level in levels.items():
            curriculum.set_attr_level(name, level)
        whole = DefaultCurriculumContext(mode=RangeAttributeMode.INCLUSIVE)
        top = DefaultCurriculumContext(mode=RangeAttributeMode.UPPER_BOUND)
        start = self.start

        class Context:
            def get_attr_value(self, curriculum: Any, attr: Any) -> Any:
                raised = levels[attr.name] > start[attr.name]
                return (top if raised else whole).get_attr_value(curriculum, attr)

        leveled = curriculum.generate_configuration(dict(settings), Context())
        return dataclasses.replace(leveled, **fixed)


def parse_generators(text: str) -> list[Generator]:
    """Read ``name(key=value)+name+...``. Raises InstructorError that names the part that is wrong and what is known."""
    return [_parse_generator(part.strip(), text) for part in _split(text, "+")]


def _parse_generator(part: str, whole: str) -> Generator:
    from reasoning_gym import factory

    form = "procedural:NAME or procedural:NAME(key=value,...)+NAME"
    match = _PART.fullmatch(part)
    if match is None:
        raise InstructorError(f"procedural:{whole}: {part!r} is no generator", next_step=f"write {form}")
    name = match["name"]
    if name not in factory.DATASETS:
        hint = did_you_mean(nearest(name, factory.DATASETS))
        raise InstructorError(
            f"procedural:{whole}: reasoning-gym has no generator {name!r}{hint}",
            next_step="https://github.com/open-thought/reasoning-gym lists the generators",
        )
    fixed, levels, about = _read_arguments(match["arguments"] or "", part)
    generator = _with_levels(name, part, fixed, levels, about)
    try:
        generator.make(generator.start, seed=0)
    except Exception as error:  # reasoning-gym raises AssertionError, TypeError, ValueError and more, by generator
        raise InstructorError(
            f"procedural:{part}: reasoning-gym refuses these settings: {error}",
            next_step=f"its parameters are {', '.join(_parameters(name))}",
        ) from None
    return generator


def _read_arguments(text: str, part: str) -> tuple[dict[str, Any], dict[str, int], str]:
    fixed: dict[str, Any] = {}
    levels: dict[str, int] = {}
    about = ""
    for argument in filter(None, (piece.strip() for piece in _split(text, ","))):
        key, equals, value = (piece.strip() for piece in argument.partition("="))
        if not equals or not key or not value:
            raise InstructorError(f"procedural:{part}: {argument!r} is not key=value", next_step="e.g. max_digits=2")
        if key == "about":
            about = value
            continue
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InstructorError(
                f"procedural:{part}: {value!r} is not a value", next_step="write a number, true, false, text or [a, b]"
            ) from None
        if key == "level" or key.startswith("level."):
            if not isinstance(parsed, int) or isinstance(parsed, bool) or parsed < 0:
                raise InstructorError(
                    f"procedural:{part}: {argument!r}: a level is a whole number from 0", next_step="e.g. level=1"
                )
            levels[key.removeprefix("level").removeprefix(".")] = parsed
        else:
            fixed[key] = parsed
    return fixed, levels, about


def _with_levels(name: str, part: str, fixed: dict[str, Any], levels: dict[str, int], about: str) -> Generator:
    """Settle where every attribute starts, ends, and whether it may move."""
    from reasoning_gym import factory

    unknown = [key for key in fixed if key not in _parameters(name)]
    if unknown:
        hint = did_you_mean(nearest(unknown[0], _parameters(name)))
        raise InstructorError(
            f"procedural:{part}: {name} has no parameter {unknown[0]!r}{hint}",
            next_step=f"its parameters are {', '.join(_parameters(name))}",
        )
    attributes: dict[str, Any] = {}
    if factory.has_curriculum(name):
        attributes = factory.create_curriculum(name).attributes
    general = levels.pop("", None)
    for attribute in levels:
        if attribute not in attributes:
            raise InstructorError(
                f"procedural:{part}: {name} has no difficulty attribute {attribute!r}",
                next_step=f"it has {', '.join(attributes) or 'none'}",
            )
    start, highest, frozen = {}, {}, set()
    for attribute, definition in attributes.items():
        last = len(definition.levels) - 1
        if getattr(definition, "ensure_interval", False):
            last -= 1  # a level spans to the next entry, so the last entry starts no level of its own
        highest[attribute] = max(0, last)
        wanted = levels.get(attribute, general)
        # By default neither end of the scale, where there is a middle: harder and easier versions then both exist.
        start[attribute] = min(highest[attribute], wanted) if wanted is not None else int(highest[attribute] >= 2)
        if {f for key, f in vars(definition).items() if key.endswith("field_name")} & set(fixed):
            frozen.add(attribute)
    words = _describe(name, list(attributes.values()), about)
    return Generator(name, fixed, start, highest, frozenset(frozen), words)


def _describe(name: str, attributes: list[Any], about: str) -> frozenset[str]:
    """Words of the name, of what the class and its module say they do in their first sentence, and of the levels."""
    from reasoning_gym import factory

    dataset = factory.DATASETS[name][0]
    documents = [dataset.__doc__ or "", sys.modules[dataset.__module__].__doc__ or ""]
    sentences = [re.split(r"[.!]\s|\n\s*[-\n]", document.strip())[0] for document in documents]
    description = " ".join([name.replace("_", " "), *sentences, *(a.description or "" for a in attributes), about])
    return frozenset(stems(speak_signs(description))) - _COMMONPLACE


def speak_signs(text: str) -> str:
    """The text with the words for its operator signs added: "8 + 5" is about adding, though it has no word for it.

    Only a sign that stands alone counts, and a minus only where no word precedes it: there it may be a dash. The
    exception is a list of signs, such as "+ and -".
    """
    found = [sign for sign in _SIGNS if re.search(rf"(?<!\S)\{sign}(?!\S)", text)]
    if "-" in found and not re.search(r"(?:[\d)]|[+*/] and|[+*/],?) -(?!\S)", text):
        found.remove("-")
    return " ".join([text, *(_SIGNS[sign] for sign in found)])


def _parameters(name: str) -> list[str]:
    from reasoning_gym import factory

    return [f.name for f in dataclasses.fields(factory.DATASETS[name][1]) if f.name not in ("seed", "size")]


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside brackets."""
    pieces, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == separator and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return pieces

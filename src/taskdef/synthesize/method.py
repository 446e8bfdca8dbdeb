"""The ways to write drafts, ``synthesize.method``: what they have in common, and what each needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from taskdef.config import RunConfig, SynthesizeConfig
from taskdef.errors import ConfigError
from taskdef.instruct.label import LabelRequest
from taskdef.instruct.protocol import Instructor
from taskdef.progress import Progress
from taskdef.records import Passage, TaskDefinition
from taskdef.synthesize.generate import KnowledgeGuided, Plan
from taskdef.synthesize.self_instruct import SelfInstruct
from taskdef.synthesize.synthllm import Synthllm
from taskdef.synthesize.targen import Targen


class Method(Protocol):
    """Writes drafts; screen, votes, drops and the number of drafts are the stage's, and the same for all methods."""

    async def begin(self) -> None:
        """Ask what all drafts need. Called once, before anything else; raises InstructorError where that fails."""
        ...

    def plan(self, index: int) -> Plan:
        """What draft ``index`` is to be written from."""
        ...

    async def write(self, plan: Plan) -> LabelRequest:
        """Have one draft written, in any order and any number at once; what comes of it follows from the plan and from
        the instructor's answers alone. Raises DraftFailed."""
        ...


def load_method(
    definition: TaskDefinition,
    passages: Sequence[Passage],
    config: SynthesizeConfig,
    *,
    pattern: str,
    instructor: Instructor,
    seed: int,
    progress: Progress,
) -> Method:
    """The method that ``config`` names. Raises ConfigError as ``refuse_unfit_method`` does."""
    refuse_unfit_method(definition, config, has_library=bool(passages), is_program=instructor.labels_by_construction)
    if config.method == "self-instruct":
        return SelfInstruct(definition, config, instructor=instructor, seed=seed)
    if config.method == "targen":
        return Targen(definition, config, instructor=instructor)
    if config.method == "synthllm":
        return Synthllm(definition, passages, config, instructor=instructor, seed=seed, progress=progress)
    return KnowledgeGuided(definition, passages, config, pattern=pattern, instructor=instructor, seed=seed)


def refuse_unfit_method(
    definition: TaskDefinition, config: SynthesizeConfig, *, has_library: bool, is_program: bool
) -> None:
    """Raise ConfigError where the method needs what is not there. Nothing is asked for it."""
    if config.method == "knowledge-guided":
        return
    place = f"synthesize.method={config.method}"
    if is_program:
        raise ConfigError(
            f"{place}: its steps are asked in words, and a procedural instructor is a program",
            next_step="name a language model (--instructor openai:MODEL), or --set synthesize.method=knowledge-guided",
        )
    if config.method == "self-instruct" and not definition.demos:
        raise ConfigError(
            f"{place}: starts from demos, and {definition.name} has none",
            next_step="give the task some (demos:), or --set synthesize.method=targen, which needs none",
        )
    if config.method == "targen" and config.targen.labels == "choices" and not definition.answer.choices:
        raise ConfigError(
            f"{place}: writes each instance for one of the task's labels, and {definition.name} has none",
            next_step="list them (answer: choices:), or --set synthesize.targen.labels=free writes without labels",
        )
    if config.method == "synthllm" and not has_library:
        raise ConfigError(
            f"{place}: takes its concepts from passages, and there are none for {definition.name}",
            next_step="name a library (--passages PATH, or passages: in the task) and a retrieve.method but none",
        )


def refuse_unfit_run(definition: TaskDefinition, config: RunConfig) -> None:
    """``refuse_unfit_method`` for a run that is only planned: before keywords are asked for and libraries read."""
    refuse_unfit_method(
        definition,
        config.synthesize,
        has_library=bool(definition.passages) and config.retrieve.method != "none",
        is_program=config.instructor.startswith("procedural:"),
    )

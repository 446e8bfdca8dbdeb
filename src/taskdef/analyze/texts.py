"""How much the texts of a set vary in words: distinct n-grams, self-BLEU, duplicates, lengths."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Sequence

from taskdef.analyze.records import Texts
from taskdef.analyze.sets import TextSet
from taskdef.screen.duplicates import Duplicates
from taskdef.screen.text import take_apart
from taskdef.screen.wording import Wording

SELF_BLEU_TEXTS = 100
"""Inputs scored, each against up to as many others: every one against all would be quadratic in the set."""

CountTokens = Callable[[Sequence[str]], list[int]]


def describe_texts(
    sets: Sequence[TextSet], *, near_similarity: float, seed: int, count_tokens: CountTokens | None
) -> list[Texts]:
    """One description a set. ``count_tokens`` is None where there is no tokenizer."""
    # Distinct-n falls as texts are added, and self-BLEU rises, so sets of different sizes are compared on as many texts
    # as the smallest has.
    compared = min((len(one.inputs) for one in sets), default=0)
    described = []
    for one in sets:
        drawn = random.Random(f"{seed} distinct").sample(list(one.inputs), compared)
        equal, near = count_duplicates(one.inputs, near_similarity)
        described.append(
            Texts(
                name=one.name,
                count=len(one.inputs),
                input_tokens=tuple(count_tokens(one.inputs)) if count_tokens else None,
                solution_tokens=tuple(count_tokens(one.solutions)) if count_tokens else None,
                distinct={n: distinct_n(drawn, n) for n in (1, 2, 3)},
                distinct_texts=compared,
                self_bleu=self_bleu(one.inputs, seed, min(SELF_BLEU_TEXTS, compared)),
                equal=equal,
                near=near,
            )
        )
    return described


def distinct_n(texts: Sequence[str], n: int) -> float | None:
    """Different word n-grams / all word n-grams (Li et al. 2016, section 5); None where there are none."""
    grams = [
        tuple(words[start : start + n])
        for words in (take_apart(text).normal.split(" ") for text in texts)
        for start in range(len(words) - n + 1)
    ]
    return len(set(grams)) / len(grams) if grams else None


def self_bleu(texts: Sequence[str], seed: int, most: int = SELF_BLEU_TEXTS) -> float | None:
    """Mean BLEU-4 of each of up to ``most`` texts against the others drawn (Zhu et al. 2018), by sacrebleu, 0 to 100.
    It rises with the number drawn.

    None for fewer than two texts, or where sacrebleu is not installed (see ``has_sacrebleu``).
    """
    if min(len(texts), most) < 2 or not has_sacrebleu():
        return None
    from sacrebleu.metrics import BLEU

    drawn = random.Random(f"{seed} self-bleu").sample(list(texts), min(most, len(texts)))
    metric = BLEU(effective_order=True, lowercase=True)  # short inputs have no 4-grams
    scores = [
        metric.sentence_score(text, [*drawn[:place], *drawn[place + 1 :]]).score for place, text in enumerate(drawn)
    ]
    return float(sum(scores) / len(scores))


def has_sacrebleu() -> bool:
    """Whether self-BLEU can be measured."""
    return importlib.util.find_spec("sacrebleu") is not None


def count_duplicates(texts: Sequence[str], near_similarity: float) -> tuple[int, int]:
    """(equal to an earlier one, near an earlier one and not equal), by the rules of the screen."""
    items = [take_apart(text) for text in texts]
    wording = Wording()
    for item in items:
        wording.see(item.short)
    kept = Duplicates(near_similarity, wording)
    seen: set[str] = set()
    equal = near = 0
    for number, item in enumerate(items):
        if item.normal in seen:
            equal += 1
        elif kept.find(item) is not None:
            near += 1
        else:
            kept.add(str(number), item)
        seen.add(item.normal)
    return equal, near

"""What each way to write drafts (``synthesize.method``) asks the instructor for, and how often at most.

A purpose is what a request is for; the ledger, ``taskdef show --calls`` and a script of recorded answers know it by
this name. Votes are not counted here: they are the same for every method.
"""

from __future__ import annotations

import math
from typing import Final

from taskdef.config import SynthesizeConfig

KNOWLEDGE_GUIDED: Final = ("generate",)
SELF_INSTRUCT: Final = ("bootstrap", "instance")
TARGEN: Final = ("contexts", "seeds", "constrain", "correct")
SYNTHLLM: Final = ("concepts", "questions", "solve")
REWRITING: Final = ("harder", "easier")
STEPS: Final = (*SELF_INSTRUCT, *TARGEN, *SYNTHLLM)
"""The purposes of the baselines, asked through ``Instructor.complete``."""
WRITING: Final = (*KNOWLEDGE_GUIDED, *STEPS, *REWRITING)
"""Everything that goes into drafts; ``answer`` is the vote on one."""
LAST_STEPS: Final = (KNOWLEDGE_GUIDED[-1], SELF_INSTRUCT[-1], TARGEN[-1], SYNTHLLM[-1], *REWRITING)
"""The request that finishes a draft: there is one of these for each that came that far."""


def writing_calls(settings: SynthesizeConfig, drafts: int, *, passages: int) -> dict[str, int]:
    """By purpose the requests that writing ``drafts`` drafts takes at most, in the order of the method's steps.

    ``passages``: how many retrieval gives, or is asked for; only ``synthllm`` looks at it.
    """
    if settings.method == "self-instruct":
        a_turn = settings.self_instruct.requests * settings.self_instruct.new_texts
        bootstrap = math.ceil(drafts / a_turn) * settings.self_instruct.requests
        return dict(zip(SELF_INSTRUCT, (bootstrap, drafts), strict=True))
    if settings.method == "targen":
        contexts, a_list = settings.targen.contexts, settings.targen.seeds
        whole, rest = divmod(drafts, contexts * a_list)  # a context's next list is asked for when its last is used up
        return dict(zip(TARGEN, (1, whole * contexts + min(rest, contexts), drafts, drafts), strict=True))
    if settings.method == "synthllm":
        synthllm = settings.synthllm
        levels = levels_of(settings)
        concepts = 0 if levels == (1,) else min(synthllm.documents, passages)
        questions = sum(
            math.ceil(len(range(place, drafts, len(levels))) / questions_of(settings, level))
            for place, level in enumerate(levels)
        )
        return dict(zip(SYNTHLLM, (concepts, questions, drafts), strict=True))
    return dict(zip(KNOWLEDGE_GUIDED, (drafts,), strict=True))


def levels_of(settings: SynthesizeConfig) -> tuple[int, ...]:
    """The levels of ``synthllm`` questions that drafts take in turn."""
    return (1, 2, 3) if settings.synthllm.level == "all" else (settings.synthllm.level,)


def questions_of(settings: SynthesizeConfig, level: int) -> int:
    """``synthllm`` questions asked of one request."""
    return settings.synthllm.combination_questions if level == 3 else settings.synthllm.questions

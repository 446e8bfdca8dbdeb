"""The verdict on one completion: a pure function of its text, the label and whether it was cut."""

from __future__ import annotations

from dataclasses import dataclass

from taskdef.records import AnswerSpec, Verdict
from taskdef.verify.compare import same_answer
from taskdef.verify.extract import AnswerFound, find_answer
from taskdef.verify.lenient import find_leniently


@dataclass(frozen=True)
class Judgement:
    """What was read in a completion and what it is worth."""

    answer: str | None
    """What the strict reading found; also set where a cut may have gone through it."""
    verdict: Verdict
    lenient_verdict: Verdict | None = None
    """Only where lenient reading was asked for."""
    failure: str = ""
    """What went wrong, where the verdict is VERIFIER_ERROR."""


def judge(spec: AnswerSpec, text: str, gold: str, *, truncated: bool, lenient: bool = False) -> Judgement:
    """Judge a completion against the label ``gold`` (an answer, not a text to read one from).

    An answer that was read is CORRECT or WRONG, unless the completion was cut and the answer touches the cut
    ("#### 12" of "#### 123"): that is TRUNCATED. Nothing read is TRUNCATED or NO_ANSWER. A failure of reading or
    comparing is VERIFIER_ERROR, never WRONG.
    """
    try:
        found = find_answer(spec, text)
        verdict = _verdict(spec, found, text, gold, truncated)
        lenient_verdict = _verdict(spec, find_leniently(spec, text), text, gold, truncated) if lenient else None
    except Exception as error:
        return failed(f"{type(error).__name__}: {error}", lenient=lenient)
    return Judgement(found.answer if found else None, verdict, lenient_verdict)


def failed(reason: str, *, lenient: bool) -> Judgement:
    """The judgement where the verifier itself failed."""
    return Judgement(None, Verdict.VERIFIER_ERROR, Verdict.VERIFIER_ERROR if lenient else None, reason[:500])


def _verdict(spec: AnswerSpec, found: AnswerFound | None, text: str, gold: str, truncated: bool) -> Verdict:
    if found is None:
        return Verdict.TRUNCATED if truncated else Verdict.NO_ANSWER
    if truncated and found.end >= len(text):
        return Verdict.TRUNCATED
    return Verdict.CORRECT if same_answer(spec, gold, found.answer) else Verdict.WRONG

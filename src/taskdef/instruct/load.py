"""From what stands on the command line to an instructor."""

from __future__ import annotations

from pathlib import Path

from taskdef.config import InstructorConfig
from taskdef.errors import InstructorError
from taskdef.instruct.protocol import Instructor

FORMS = "openai:MODEL[@BASE_URL], procedural:GENERATOR or scripted:FILE"


def load_instructor(text: str, *, ledger_path: Path | None, config: InstructorConfig, seed: int) -> Instructor:
    """The instructor that ``text`` names: one of ``FORMS``.

    ``ledger_path`` is where calls are recorded (None: in memory, for this process only). Raises InstructorError where
    the form is unknown, a key is missing, or what it names does not exist.
    """
    kind, colon, rest = text.strip().partition(":")
    if not colon or not rest or kind not in ("openai", "procedural", "scripted"):
        shown = repr(text) if text.strip() else "none was given"
        raise InstructorError(f"instructor: {shown}", next_step=f"give --instructor {FORMS}")
    if kind == "procedural":
        from taskdef.instruct.procedural import ProceduralInstructor

        return ProceduralInstructor(rest, seed=seed)
    raise InstructorError(f"instructor: {text!r}", next_step=f"give --instructor {FORMS}")

"""The pattern: the demos' general form, summed up once and shown in every prompt (paper section 3.1)."""

from __future__ import annotations

from taskdef.config import SynthesizeConfig
from taskdef.instruct.protocol import Instructor
from taskdef.records import TaskDefinition


async def find_pattern(definition: TaskDefinition, config: SynthesizeConfig, *, instructor: Instructor) -> str:
    """The pattern; empty (and nothing asked) without demos, where the config switches it off, and for other methods
    than the paper's own."""
    if not definition.demos or not config.pattern or config.method != "knowledge-guided":
        return ""
    return await instructor.pattern(definition)

"""Which of the task's sub-domains a draft belongs to."""

from __future__ import annotations

from taskdef.records import Passage, TaskDefinition


def domain_of(definition: TaskDefinition, passage: Passage | None, index: int) -> str | None:
    """The passage's sub-domain; without one the task's sub-domains in turn; None where the task has none."""
    if passage is not None and passage.domain is not None:
        return passage.domain
    return definition.domains[index % len(definition.domains)] if definition.domains else None

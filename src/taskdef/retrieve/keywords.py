"""From the instructor's keywords to queries."""

from __future__ import annotations

from dataclasses import dataclass

from taskdef.records import TaskDefinition


@dataclass(frozen=True)
class Query:
    """What is searched for, and for which of the task's sub-domains."""

    text: str
    domain: str | None


def build_queries(definition: TaskDefinition, keywords: list[str]) -> list[Query]:
    """One query of all keywords; for a task with sub-domains one a sub-domain, led by its name.

    The name stands three times in its query: BM25 adds up over the words of a query, and without the weight the
    keywords, which all sub-domains share, would find the same passages for each of them.
    """
    shared = " ".join(keywords)
    if not definition.domains:
        return [Query(shared, None)]
    return [Query(" ".join([domain] * 3 + [shared]), domain) for domain in definition.domains]

"""From the instructor's keywords to queries."""

from __future__ import annotations

from dataclasses import dataclass

from taskdef.records import TaskDefinition

MOST_TOPICS = 30
"""Keywords with a query of their own: each is a pass over the index."""


@dataclass(frozen=True)
class Search:
    """What is searched for the task, or for one of its sub-domains."""

    whole: str
    """All keywords: the paper's one query."""
    topics: tuple[str, ...] = ()
    """One query a keyword. What holds a rare keyword would otherwise fill the first places of the whole query."""
    domain: str | None = None

    @property
    def subject(self) -> str:
        """The whole query without what is repeated for its weight in BM25: what models of meaning read."""
        return self.whole.removeprefix(f"{self.domain} {self.domain} ") if self.domain else self.whole


def build_searches(definition: TaskDefinition, keywords: list[str]) -> list[Search]:
    """One search for the task; for a task with sub-domains one a sub-domain, led by its name.

    A topic is a keyword led by the field, which is the sub-domain or else the first keyword: instructors are asked to
    name it first. In the whole query a sub-domain's name stands three times: BM25 adds up over the words of a query,
    and without the weight the keywords, which all sub-domains share, would find the same passages for each of them.
    """
    shared = " ".join(keywords)
    if not definition.domains:
        topics = tuple(f"{keywords[0]} {keyword}" for keyword in keywords[1 : MOST_TOPICS + 1])
        return [Search(shared, topics)]
    return [
        Search(
            " ".join([domain] * 3 + [shared]),
            tuple(f"{domain} {keyword}" for keyword in keywords[:MOST_TOPICS]),
            domain,
        )
        for domain in definition.domains
    ]

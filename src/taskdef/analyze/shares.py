"""How samples spread over passages and domains."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from taskdef.analyze.records import Shares
from taskdef.records import Sample
from taskdef.report.gather import Artifacts


def describe_shares(artifacts: Artifacts) -> list[Shares]:
    """Over passages and, where the samples have any, over domains; of initial samples and of the training set."""
    by_id = {sample.id: sample for sample in [*artifacts.initial, *artifacts.adapted]}
    found = []
    for name, samples in (("initial", artifacts.initial), ("training", artifacts.selected)):
        roots = [_root(sample, by_id) for sample in samples]
        passages = [root.passage_id for root in roots]
        domains = [sample.domain or root.domain for sample, root in zip(samples, roots, strict=True)]
        if any(passages):
            found.append(spread("passage", name, passages, retrieved=len(artifacts.passages)))
        if any(domains):
            found.append(spread("domain", name, domains))
    return found


def spread(by: str, among: str, members: Sequence[str | None], retrieved: int = 0) -> Shares:
    """Counts, and the effective number exp(- sum of p log p) (Hill 1973, order 1)."""
    counts = Counter(member for member in members if member is not None)
    total = counts.total()
    entropy = -sum(count / total * math.log(count / total) for count in counts.values())
    return Shares(
        by=by,
        among=among,
        counts=dict(counts.most_common()),
        unused=max(0, retrieved - len(counts)) if retrieved else 0,
        without=len(members) - total,
        effective=math.exp(entropy) if total else None,
    )


def _root(sample: Sample, by_id: Mapping[str, Sample]) -> Sample:
    """The initial sample that a rewrite goes back to."""
    seen = {sample.id}
    while (parent := by_id.get(sample.parent_id or "")) is not None and parent.id not in seen:
        sample = parent
        seen.add(sample.id)
    return sample

"""What an evaluation found: frozen records, stored as ``evaluation.json``.

An empty denominator gives None, never 0.0: nothing measured is not "nothing right".
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from taskdef.records import Record, Verdict

Reading = Literal["strict", "lenient"]
"""Strict: the answer exactly where the output format wants it. Lenient: wherever an answer can be made out."""


class Accuracy(Record):
    """Correct answers among those that could be judged, with Wilson's 95% interval (shares in [0, 1])."""

    correct: int
    judged: int
    """Rows less those on which the verifier failed."""
    share: float | None
    low: float | None
    high: float | None


class ModelResult(Record):
    """One model on the held-out rows."""

    rows: int
    strict: Accuracy
    lenient: Accuracy
    verdicts: dict[Verdict, int]
    """Rows by verdict of the strict reading; every verdict is listed, also with 0."""
    lenient_verdicts: dict[Verdict, int]
    mean_tokens: float | None
    """Mean completion length in tokens."""


class Comparison(Record):
    """Two models on the same rows, each under one reading; rows on which either verifier failed are left out."""

    a: str
    a_reading: Reading
    b: str
    b_reading: Reading
    pairs: int
    missing: int
    """Rows left out because the verifier failed on one of the two."""
    only_a: int
    """Pairs on which a is right and b is not."""
    only_b: int
    difference_points: float | None
    """Accuracy of a less that of b on the pairs, in percentage points."""
    p_value: float | None
    """McNemar's exact test, two-sided."""


class PoolOverlap(Record):
    """Held-out inputs against one pool of inputs that the run has used."""

    inputs: int
    """Inputs in the pool."""
    found: int
    """Held-out rows whose normalised input is in the pool. Must be 0."""
    row_ids: tuple[str, ...] = ()
    """The rows found."""


class Evaluation(Record):
    """Everything that ``evaluation.json`` holds."""

    rows: int
    models: dict[str, ModelResult]
    """By name, in the order evaluated: ``base``, ``warm_up`` where there was one, ``tuned``."""
    comparisons: tuple[Comparison, ...]
    overlap: dict[str, PoolOverlap] = Field(default_factory=dict)
    """By pool: ``scoring`` (every sample the base model was scored on), ``training`` (the selected ones)."""

"""What an analysis found: frozen records, stored as ``analysis.json``. What was not measured is None, never 0."""

from __future__ import annotations

from pydantic import Field

from taskdef.records import Record


class Texts(Record):
    """The inputs and solutions of one set, and how much they vary."""

    name: str
    """``initial``, ``all`` (initial samples and rewrites), ``training``, ``human``."""
    count: int
    input_tokens: tuple[int, ...] | None
    """Of each input, by the base model's tokenizer."""
    solution_tokens: tuple[int, ...] | None
    distinct: dict[int, float | None]
    """By n: different word n-grams of the inputs / all of them, over the same number of texts in every set."""
    distinct_texts: int
    """That number."""
    self_bleu: float | None
    """Mean BLEU-4 of an input against others of its set, 0 to 100; lower is more varied."""
    equal: int
    """Inputs that equal an earlier one but for case, spacing and punctuation."""
    near: int
    """Inputs that are near an earlier one by the run's own rule, and not equal to it."""


class Similarity(Record):
    """Cosine similarity of the embedded inputs of one set, every pair once."""

    name: str
    texts: int
    """How many inputs were drawn."""
    pairs: int
    mean: float
    deviation: float
    quantiles: dict[str, float]
    """5%, 50%, 95%."""
    nearest: float
    """Mean over the inputs of the similarity to the most similar other one."""
    counts: tuple[int, ...]
    """Pairs in bins of equal width between ``low`` and ``high``."""
    low: float
    high: float


class Rates(Record):
    """Pass rates of one set by the starting model."""

    name: str
    attempts: tuple[int, ...]
    """Attempts behind each rate."""
    rates: tuple[float, ...]
    missing: int = 0
    """Members without a rate: not scored, or without a verdict."""


class Shares(Record):
    """How the samples spread over their passages or domains."""

    by: str
    """``passage`` or ``domain``."""
    among: str
    """The set's name."""
    counts: dict[str, int]
    """Samples by passage or domain, the most frequent first; a rewrite counts for the passage of its initial sample."""
    unused: int
    """Passages retrieved that no sample comes from; 0 for domains."""
    without: int
    """Samples without one."""
    effective: float | None
    """exp of the shares' entropy: as many equally frequent ones would spread as far."""


class VoteBin(Record):
    """Labels whose share of votes lies in one range."""

    low: float
    high: float
    """Included."""
    labels: int
    correct: int
    share: float | None
    share_low: float | None
    share_high: float | None
    """Wilson's 95% interval."""


class Votes(Record):
    """Do labels that win clearly agree more often with people?"""

    matched: int
    """Samples whose question is in the human file."""
    unjudged: int
    """Of those: the comparison failed, or the human answer cannot be read."""
    correct: int
    bins: tuple[VoteBin, ...]


class Analysis(Record):
    """Everything that ``analysis.json`` holds."""

    run: str
    model: str
    """The base model."""
    human: str | None
    """The human file's name."""
    human_rows: int
    human_unreadable: int
    """Rows whose output holds no answer."""
    texts: tuple[Texts, ...]
    similarity: tuple[Similarity, ...]
    rates: tuple[Rates, ...]
    shares: tuple[Shares, ...]
    votes: Votes | None
    not_measured: dict[str, str] = Field(default_factory=dict)
    """What is left out, and why."""

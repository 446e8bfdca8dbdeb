"""The data that flows through a run: frozen records, no behaviour.

Every record is a pydantic model that refuses unknown keys, so a JSONL artifact written by one version and read by
another fails loudly instead of dropping a field. Free functions and the stages give the records their behaviour.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """Base of all records: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(StrEnum):
    """The stages in the order of the data's path; the value is the CLI verb."""

    RETRIEVE = "retrieve"
    SYNTHESIZE = "synthesize"
    ADAPT = "adapt"
    SELECT = "select"
    TRAIN = "train"
    EVALUATE = "evaluate"


class Verdict(StrEnum):
    """What became of one attempt. Only CORRECT and WRONG are judgements of the answer."""

    CORRECT = "correct"
    """An answer was read and equals the label."""
    WRONG = "wrong"
    """An answer was read and differs from the label."""
    NO_ANSWER = "no_answer"
    """The completion ended by itself and holds nothing that can be read as an answer."""
    TRUNCATED = "truncated"
    """The completion was cut at the token limit before its answer was complete."""
    VERIFIER_ERROR = "verifier_error"
    """The verifier failed or ran out of time: missing data, never a wrong answer."""


class Origin(StrEnum):
    """Where a sample comes from."""

    INITIAL = "initial"
    HARDER = "harder"
    EASIER = "easier"


class DropReason(StrEnum):
    """Why a sample (or a draft of one) left the data's path. One reason a drop, counted in the manifest."""

    INSTRUCTOR_FAILED = "instructor_failed"
    """The instructor gave no response after all retries."""
    UNPARSEABLE = "unparseable"
    """The response holds no input and output that could be taken apart."""
    GOLD_FAILS = "gold_fails"
    """The solution's own answer cannot be read by the task's verifier."""
    NO_MAJORITY = "no_majority"
    """No answer got the most votes alone and a sufficient share."""
    NO_REWRITE = "no_rewrite"
    """The instructor has no harder (or easier) version to give."""
    DUPLICATE = "duplicate"
    """Equal or nearly equal to a sample that is kept."""
    TOO_SIMILAR = "too_similar"
    """Too much of its wording stands in another text of the pool (Self-Instruct's own filter)."""
    OVERLAPS_TEST = "overlaps_test"
    """Equal to a test input, or shares most of its own word 8-grams with one."""
    OVERLAPS_DEMO = "overlaps_demo"
    """Equal to a demo's input."""
    TOO_LONG = "too_long"
    """The prompt and the response limit do not fit the base model's context."""


# --- task definition -------------------------------------------------------------------------------------------


class AnswerReading(StrEnum):
    """How an answer is read out of a text."""

    NUMBER_AFTER_MARKER = "number_after_marker"
    BOXED = "boxed"
    TAG = "tag"
    EXACT = "exact"
    REGEX = "regex"
    FUNCTION = "function"


class AnswerComparison(StrEnum):
    """How two answers are compared."""

    NUMERIC = "numeric"
    MATH = "math"
    CHOICE = "choice"
    LABEL_SET = "label_set"
    TEXT = "text"


class AnswerSpec(Record):
    """How an answer is read and compared (the ``answer:`` part of task.yaml)."""

    read: AnswerReading
    compare: AnswerComparison
    marker: str = "####"
    """What stands before the number (read: number_after_marker)."""
    tag: str = "answer"
    """The tag's name without brackets (read: tag)."""
    pattern: str | None = None
    """A regular expression; its first group, or the whole match, is the answer (read: regex). The last match counts."""
    function: str | None = None
    """Dotted path ``package.module.function`` of ``(text: str) -> str | None`` (read: function)."""
    choices: tuple[str, ...] = ()
    """The permitted answers (compare: choice, label_set)."""
    tolerance: float = Field(default=1e-6, ge=0)
    """Relative tolerance (compare: numeric)."""


class Demo(Record):
    """One example given by the user: an input and the output wanted for it."""

    input: str
    output: str


class PassageSource(Record):
    """One library of passages to search: files, or a data set."""

    path: Path | None = None
    """A file of any kind that is read, or a folder of them; relative to task.yaml."""
    hub: str | None = None
    """Instead of ``path``: a data set's id on the Hugging Face hub, or the path of a folder laid out like one."""
    subset: str | None = None
    """The data set's configuration, where it has several."""
    split: str = "train"
    """The data set's split."""
    text_field: str = "text"
    """The field of a row that holds the text."""
    language: str = "english"
    """The language of its texts by its English name, which decides stems and stop words; ``none`` for neither."""
    weight: float = Field(default=1.0, gt=0)
    """How much the library counts beside the others."""
    passage_words: int = Field(default=200, ge=1)
    """Longer documents and rows are cut into passages of about this many words."""
    overlap_words: int = Field(default=0, ge=0)
    """How many words of a cut passage, in whole sentences, the next one begins with."""


class TestSource(Record):
    """Where the held-out rows come from: a local file, or a data set on the hub."""

    __test__ = False

    path: Path | None = None
    """JSON lines; relative to task.yaml."""
    hub: str | None = None
    """A data set's id on the Hugging Face hub, used where no path is given."""
    subset: str | None = None
    split: str = "test"
    input: str = "{{ input }}"
    """Jinja template over the row's fields that gives the sample's input."""
    output: str = "{{ output }}"
    """Jinja template over the row's fields that gives the gold output; the task's answer reading is applied to it."""


class TaskDefinition(Record):
    """What the task is, how inputs look, how outputs must look, and how an answer is read and compared."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    description: str = Field(min_length=1)
    """I_des of the paper: task type, then domain, then the skills needed."""
    input_format: str = ""
    """I_input of the paper."""
    output_format: str = Field(min_length=1)
    """I_output of the paper; also what the base model is told."""
    answer: AnswerSpec
    demos: tuple[Demo, ...] = ()
    domains: tuple[str, ...] = ()
    """Sub-domains; retrieval and generation go round them."""
    passages: tuple[PassageSource, ...] = ()
    test: TestSource | None = None


class TestRow(Record):
    """One held-out row. No stage before evaluation sees more of it than its input, and that only to keep it out."""

    __test__ = False

    id: str
    input: str
    answer: str
    """Gold answer as the task's verifier read it."""


# --- retrieval -------------------------------------------------------------------------------------------------


class Passage(Record):
    """A text unit that retrieval returns."""

    id: str
    text: str
    source: str
    """File (and line or position) it was read from."""
    document: str = ""
    """The file it was cut from, or in files of rows the row; empty before retrieval."""
    score: float = 0.0
    """BM25 score for all keywords together; higher is better; 0 before retrieval."""
    domain: str | None = None
    """The task's sub-domain for which it was retrieved."""


class Relevance(StrEnum):
    """How much a passage could help somebody who writes a new example of the task."""

    RELEVANT = "relevant"
    """It holds a subject, facts or a situation from which an example of this very task can be written."""
    PARTLY = "partly"
    """It belongs to the task's field, but gives no more than a setting or some words."""
    IRRELEVANT = "irrelevant"
    """Nothing of it serves the task."""


class Grade(Record):
    """One passage's relevance as an instructor or a person judged it."""

    passage_id: str
    grader: str
    """The instructor's name, or that it was a person."""
    relevance: Relevance | None
    """None where no grade could be had or read: missing data."""


# --- synthesis -------------------------------------------------------------------------------------------------


class Sample(Record):
    """One synthetic input with its solution, answer and provenance."""

    id: str
    input: str
    solution: str
    """A full output that ends in the answer, in the task's output format."""
    answer: str
    """The label: the answer that won the vote."""
    origin: Origin = Origin.INITIAL
    parent_id: str | None = None
    """The sample this one was rewritten from."""
    passage_id: str | None = None
    domain: str | None = None
    votes: int = 0
    """Votes for the label, the generator's own included."""
    vote_count: int = 0
    """Votes that held a readable answer."""
    level: dict[str, int] = Field(default_factory=dict)
    """Difficulty levels of the procedural generator; empty for language models."""
    steps: dict[str, str] = Field(default_factory=dict, exclude_if=lambda steps: not steps)
    """What a baseline synthesizer wrote it from, step by step (docs/synthesizers.md); else empty, and not stored."""

    @property
    def vote_share(self) -> float | None:
        """The label's share of the votes; None where nothing was put to the vote."""
        return self.votes / self.vote_count if self.vote_count else None


class Drop(Record):
    """Something that left the data's path, with the reason and enough text to see why."""

    reason: DropReason
    stage: Stage
    id: str
    """Id of the sample or of the draft."""
    passage_id: str | None = None
    """The passage that the draft was written from."""
    detail: str = ""
    """The offending text, or the id of the record it collides with; cut to a few hundred characters."""


# --- the base model --------------------------------------------------------------------------------------------


class Completion(Record):
    """One continuation that a policy gave for a prompt."""

    text: str
    token_count: int
    truncated: bool
    """True where the token limit, not an end-of-sequence token, ended it."""


class Attempt(Record):
    """One completion of the base model on a sample or a test row, with its verdict."""

    sample_id: str
    text: str
    answer: str | None
    """What the strict reading found."""
    verdict: Verdict
    token_count: int
    lenient_verdict: Verdict | None = None
    """The verdict under lenient reading; filled by evaluation only."""


class PassRate(Record):
    """What L attempts on one sample came to."""

    sample_id: str
    attempts: int
    """Attempts with a verdict about the model (verifier errors are missing data and not counted)."""
    correct: int
    no_answer: int = 0
    truncated: int = 0
    verifier_errors: int = 0
    mean_tokens: float = 0.0

    @property
    def rate(self) -> float | None:
        """Correct attempts / attempts; None where every attempt is missing."""
        return self.correct / self.attempts if self.attempts else None


class WarmUpCheck(Record):
    """One look at the warm-up's progress."""

    step: int
    readable: float | None
    """Share of probe attempts in which an answer could be read."""
    loss: float
    """Cross-entropy of the step's batch in nats a token."""


class WarmUp(Record):
    """What the warm-up did, or why there was none."""

    done: bool
    reason: str
    steps: int = 0
    readable_before: float | None = None
    """Share of the base model's greedy attempts in which an answer could be read."""
    readable_after: float | None = None
    """Share of readable probe attempts (temperature 1) at its end."""
    checks: tuple[WarmUpCheck, ...] = ()


class TrainingStep(Record):
    """One optimizer step of stage 5; what a method does not measure is None."""

    step: int
    reward: float | None = None
    """Mean over the step's completions."""
    reward_std: float | None = None
    zero_signal_share: float | None = None
    """Share of completions in groups whose rewards are all equal."""
    completion_length: float | None = None
    """Mean, in tokens."""
    truncated_share: float | None = None
    entropy: float | None
    """Mean over the tokens trained on (GRPO: those of groups with a signal), in nats."""
    kl: float | None = None
    """Mean estimated KL divergence from the starting policy a token, in nats, over groups with a signal."""
    value_loss: float | None = None
    """Half the mean squared error of the value head a token, clipped (PPO)."""
    explained_variance: float | None = None
    """1 - variance of (return - value) / variance of the returns, before the step learns from them; 1 at best, and
    below 0 the values are worse than a constant (PPO)."""
    clipped_share: float | None = None
    """Share of the tokens whose policy loss was clipped, over all passes of the step (PPO)."""
    chosen_log_probability: float | None = None
    """Mean of log pi(chosen), summed over a completion's tokens, in nats (DPO)."""
    rejected_log_probability: float | None = None
    """The same of the rejected completions."""
    chosen_reward: float | None = None
    """Mean of beta (log pi(chosen) - log pi_ref(chosen)) (DPO): below 0 the chosen side became less likely."""
    margin: float | None = None
    """Mean of beta (log-ratio of chosen - log-ratio of rejected): what the DPO loss pushes up."""
    loss: float | None
    learning_rate: float | None
    gradient_norm: float | None
    seconds: float | None
    """Wall time of the step."""


# --- the run directory -----------------------------------------------------------------------------------------


class Manifest(Record):
    """The mark that a stage is done; written last."""

    stage: Stage
    taskdef_version: str
    finished_at: str
    """UTC, ISO 8601."""
    seconds: float
    """Wall time of the stage in this process and, where it was resumed, of the last process only."""
    config_digest: str
    inputs: dict[str, str]
    """Digest of every artifact of all earlier stages, by path relative to the run directory."""
    outputs: dict[str, str]
    """Digest of every artifact the stage wrote, by file name."""
    summary: dict[str, Any]
    """The stage's counts and figures; what ``taskdef show`` and the report print."""

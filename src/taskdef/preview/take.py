"""A handful of samples through every stage, as a full run would make them: the same prompts, so that the run that
follows takes their answers over from the preview's ledger.

Beside pipeline.py the only place where stages meet. Nothing is written but that ledger (``runs/NAME-preview.sqlite``),
and what any run keeps between runs: the libraries' indexes, and the shared cache of answers where one is named.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from taskdef.adapt.stage import adapt_difficulty, attempt_greedily, drop_too_long
from taskdef.config import RunConfig
from taskdef.definition.testset import load_test_rows
from taskdef.errors import BudgetReached, InstructorError
from taskdef.instruct.label import LabelRequest
from taskdef.instruct.load import close_instructor, load_instructor
from taskdef.instruct.meter import Meter, Work
from taskdef.instruct.protocol import Draft
from taskdef.instruct.totals import LedgerTotals
from taskdef.instruct.watched import WatchedInstructor
from taskdef.policy.attempts import Problem, attempt_problems, readable_share
from taskdef.preview.ledger import finish_ledger, preview_ledger, totals_of
from taskdef.preview.lengths import Lengths, MeasuredPolicy, Sampling, project_sampling
from taskdef.preview.projection import Projection, Seen, project
from taskdef.progress import Progress
from taskdef.records import Attempt, Drop, DropReason, Sample, Stage, TaskDefinition
from taskdef.request import RunRequest
from taskdef.retrieve.stage import retrieve_passages
from taskdef.stopping import answers_kept
from taskdef.store import RunDirectory
from taskdef.synthesize.generate import Plan
from taskdef.synthesize.pattern import find_pattern
from taskdef.synthesize.stage import stream_samples
from taskdef.verify.isolated import Verifier

if TYPE_CHECKING:
    from taskdef.policy.transformers_policy import TransformersPolicy

ATTEMPTS = 4
"""Attempts on each previewed sample at the temperature of scoring, for lengths and speed beside the greedy one."""
UNVOTED = frozenset(
    {
        DropReason.INSTRUCTOR_FAILED,
        DropReason.UNPARSEABLE,
        DropReason.NO_REWRITE,
        DropReason.DUPLICATE,
        DropReason.TOO_SIMILAR,
        DropReason.OVERLAPS_TEST,
        DropReason.OVERLAPS_DEMO,
        DropReason.GOLD_FAILS,
    }
)
"""Drops that cost no votes."""


@dataclass
class Preview:
    """What was found; parts stay empty where the budget ended it earlier."""

    definition: TaskDefinition
    config: RunConfig
    keywords: tuple[str, ...] = ()
    passages: int = 0
    """How many retrieval found."""
    plans: dict[str, Plan] = field(default_factory=dict)
    """What each draft was to be written from, by its id."""
    pattern: str = ""
    outcomes: list[Sample | Drop] = field(default_factory=list)
    """Of the drafts, in their order."""
    drafts: dict[str, Draft] = field(default_factory=dict)
    """Drafts and rewrites, by the ids of what became of them."""
    steps: dict[str, dict[str, str]] = field(default_factory=dict)
    """What a baseline wrote each draft from, by its id."""
    votes: dict[str, list[tuple[str | None, int]]] = field(default_factory=dict)
    """(answer, votes) by input, the most frequent first, the draft's own among them; None: could not be read."""
    too_long: list[Drop] = field(default_factory=list)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    """The greedy attempt, by sample."""
    scored: dict[str, list[Attempt]] = field(default_factory=dict)
    rewrites: dict[str, Sample | Drop] = field(default_factory=dict)
    """By the id of the sample rewritten."""
    lengths: Lengths | None = None
    context: int | None = None
    warm_up: str = ""
    """Why the full run will warm the model up; empty where, by these attempts, it will not."""
    meter: Meter | None = None
    synthesis: Work | None = None
    """What everything before the base model's attempts came to."""
    paid: LedgerTotals | None = None
    """The whole ledger of previews; None where the instructor is a program."""
    paid_before: LedgerTotals | None = None
    projection: Projection | None = None
    sampling: Sampling | None = None
    test_rows: int = 0
    in_batches: bool = False
    """The run, not the preview, asks through a Batch API."""
    stopped: InstructorError | None = None
    """What ended it early: the budget, or an instructor that cannot be used any more."""

    @property
    def samples(self) -> list[Sample]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, Sample)]

    @property
    def drops(self) -> list[Drop]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, Drop)]

    def seen(self) -> Seen:
        """The counts that the projection starts from."""
        rewrites = list(self.rewrites.values())
        return Seen(
            drafts=len(self.outcomes),
            voted=_voted(self.outcomes),
            kept=len(self.samples),
            rewrites=len(rewrites),
            rewrites_voted=_voted(rewrites),
            rewrites_kept=sum(isinstance(rewrite, Sample) for rewrite in rewrites),
        )


def take_preview(request: RunRequest, samples: int, progress: Progress) -> Preview:
    """Take ``samples`` samples through every stage up to the rewrites; the base model scores them too.

    At the budget, and where the instructor fails after the first draft, it ends with what there is, and says so in
    ``stopped``. Raises TaskdefError and its kinds otherwise.
    """
    # A batch comes back within a day; a preview is to be looked at now. The answers are the same, at twice the price.
    instruct = request.config.instruct.model_copy(update={"batch": False})
    config = request.config.model_copy(update={"instruct": instruct})
    run = RunDirectory(request.path, request.definition, config)
    preview = Preview(request.definition, config, in_batches=request.config.instruct.batch)
    with preview_ledger(run) as ledger_path:
        preview.paid_before = totals_of(ledger_path)
        with Verifier(preview.definition.answer, config.verify.timeout_seconds) as verifier:
            asyncio.run(_take(preview, run, ledger_path, samples, verifier, progress))
        preview.paid, exchanges = finish_ledger(ledger_path)
    if preview.samples and preview.stopped is None:
        _project(preview, exchanges)
    return preview


def refuse_fruitless(preview: Preview) -> None:
    """Raise InstructorError where no draft became a sample: a full run would only cost."""
    if preview.samples:
        return
    reasons = Counter(drop.reason for drop in preview.drops)
    counted = ", ".join(f"{count} {reason.value}" for reason, count in reasons.most_common())
    most = reasons.most_common(1)[0][0]
    steps = {
        DropReason.UNPARSEABLE: "see above what was written; another instructor, or --set instruct.force_form=true "
        "where the server holds its model to a JSON schema",
        DropReason.GOLD_FAILS: "see above how the outputs end, and say in output_format how they must",
        DropReason.NO_MAJORITY: "see the votes above; a stronger instructor, or a lower synthesize.min_vote_share",
    }
    raise InstructorError(
        f"{preview.config.instructor}: none of {len(preview.outcomes)} drafts became a sample ({counted})",
        next_step=steps.get(most, "see above why, change the task or the instructor, and preview again"),
    )


async def _take(
    preview: Preview, run: RunDirectory, ledger_path: Path | None, samples: int, verifier: Verifier, progress: Progress
) -> None:
    definition, config = preview.definition, preview.config
    test_inputs = [row.input for row in load_test_rows(definition, verifier)] if definition.test is not None else []
    preview.test_rows = len(test_inputs[: config.evaluate.limit])
    instructor = WatchedInstructor(
        load_instructor(
            config.instructor,
            ledger_path=ledger_path,
            config=config.instruct,
            seed=config.seed,
            also_known=[run.ledger_path],
        )
    )
    preview.meter, preview.drafts = instructor.meter, instructor.drafts
    with answers_kept(lambda: instructor.in_flight):
        try:
            await _take_samples(preview, instructor, samples, test_inputs, verifier, progress)
        except InstructorError as error:
            if not preview.outcomes and not isinstance(error, BudgetReached):
                raise
            preview.stopped = error  # what was paid for is shown all the same
        finally:
            await close_instructor(instructor, progress)
    preview.votes = _count_votes(preview, instructor.votes, verifier)


async def _take_samples(
    preview: Preview,
    instructor: WatchedInstructor,
    samples: int,
    test_inputs: Sequence[str],
    verifier: Verifier,
    progress: Progress,
) -> None:
    definition, config = preview.definition, preview.config

    def remember(plan: Plan, outcome: LabelRequest | Drop) -> None:
        preview.plans[plan.id] = plan
        if isinstance(outcome, LabelRequest):
            preview.drafts[plan.id] = outcome.draft
            preview.steps[plan.id] = outcome.steps

    retrieval = await retrieve_passages(
        definition, config.retrieve, instructor=instructor, seed=config.seed, progress=progress
    )
    preview.keywords = retrieval.keywords
    preview.passages = len(retrieval.passages)
    preview.pattern = await find_pattern(definition, config.synthesize, instructor=instructor)
    async for outcome in stream_samples(
        definition,
        retrieval.passages,
        config.synthesize,
        pattern=preview.pattern,
        instructor=instructor,
        verifier=verifier,
        test_inputs=test_inputs,
        seed=config.seed,
        progress=progress,
        limit=samples,
        written=remember,
    ):
        preview.outcomes.append(outcome)
    preview.synthesis = instructor.meter.total() if instructor.meter else None
    if not preview.samples:
        return
    fitting = _attempt(preview, verifier, progress)
    adaptation = await adapt_difficulty(
        definition,
        fitting,
        list(preview.attempts.values()),
        config,
        instructor=instructor,
        verifier=verifier,
        test_inputs=test_inputs,
        pattern=preview.pattern,
        progress=progress,
    )
    made = [sample for sample in adaptation.samples if sample.parent_id is not None]
    preview.rewrites = {sample.parent_id or "": sample for sample in made}
    preview.rewrites |= {drop.id.rsplit("-", 1)[0]: drop for drop in adaptation.drops}


def _attempt(preview: Preview, verifier: Verifier, progress: Progress) -> list[Sample]:
    """The base model's attempts on the samples that it has room for; gives these."""
    from taskdef.policy.load import load_policy
    from taskdef.policy.warm_up import needs_warm_up  # imports torch

    config = preview.config
    loaded: TransformersPolicy = load_policy(config.base_model, preview.definition, config.policy)
    policy = MeasuredPolicy(loaded, config.policy.max_new_tokens)
    preview.lengths, preview.context = policy.lengths, loaded.context
    fitting, preview.too_long = drop_too_long(preview.samples, policy, Stage.ADAPT)
    attempts = attempt_greedily(policy, fitting, verifier=verifier, label="attempt samples", progress=progress)
    preview.attempts = {attempt.sample_id: attempt for attempt in attempts}
    scored = attempt_problems(
        policy,
        [Problem.of(sample) for sample in fitting],
        count=ATTEMPTS,
        temperature=config.select.temperature,
        seed=config.seed,
        label="score",
        verifier=verifier,
        progress=progress,
    )
    for attempt in scored:
        preview.scored.setdefault(attempt.sample_id, []).append(attempt)
    needed, reason = needs_warm_up(config.warm_up, readable_share(attempts))
    preview.warm_up = reason if needed else ""
    return fitting


def _count_votes(
    preview: Preview, further: Mapping[str, list[str]], verifier: Verifier
) -> dict[str, list[tuple[str | None, int]]]:
    """How often each answer was given to each input, the draft's own output included."""
    own = {draft.input: draft.solution for draft in preview.drafts.values()}
    counted = {}
    for sample_input, answers in further.items():
        outputs = [own[sample_input], *answers] if sample_input in own else answers
        tally = verifier.tally(outputs)
        answers_read = [reading.answer for reading in verifier.read_all(outputs)]
        for place in tally.winners if tally.answer is not None else ():
            answers_read[place] = tally.answer  # 42 and 42.0 are one answer
        counted[sample_input] = Counter(answers_read).most_common()
    return counted


def _voted(outcomes: Sequence[Sample | Drop]) -> int:
    return sum(isinstance(outcome, Sample) or outcome.reason not in UNVOTED for outcome in outcomes)


def _project(preview: Preview, exchanges: Sequence[tuple[float, float]]) -> None:
    config, meter, rows = preview.config, preview.meter, preview.test_rows
    preview.projection = project(
        preview.seen(),
        meter,
        config,
        exchanges=exchanges,
        other_rewrites=bool(preview.warm_up),
        passages=preview.passages,
        seed=config.seed,
    )
    if preview.lengths is not None:
        samples, pool = preview.projection.samples, preview.projection.pool
        preview.sampling = project_sampling(
            preview.lengths, config, samples=(samples.low, samples.high), pool=(pool.low, pool.high), test_rows=rows
        )

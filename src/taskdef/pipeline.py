"""The whole method on one page, to be read beside Algorithm 1 of arXiv 2505.17063.

Each ``_stage`` function reads the artifacts of the stages before it, calls the one function that does the work, and
writes its own artifacts; the manifest, written last, marks it done. ``run`` goes through them in order and starts
where an earlier run stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskdef.config import RunConfig
from taskdef.definition.testset import load_test_rows
from taskdef.errors import BudgetReached, OutOfMemory, RunError
from taskdef.instruct.load import close_instructor, load_instructor
from taskdef.instruct.protocol import Spending
from taskdef.live import synthesis_outlook, with_spending
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Attempt, Manifest, Passage, Sample, Stage, TaskDefinition, TestRow, WarmUp
from taskdef.stopping import answers_kept
from taskdef.store import FAULT_FILE, STAGES, RunDirectory, StageDirectory, file_digest, first_stage
from taskdef.verify.isolated import Verifier

if TYPE_CHECKING:
    from taskdef.instruct.protocol import Instructor
    from taskdef.policy.token_policy import TokenPolicy
    from taskdef.policy.transformers_policy import TransformersPolicy

WARM_UP_FOLDER = "warm-up"
TEST_FILE_DIGEST = "test_set"
"""In the summary of synthesize: SHA-256 of the local test file that samples were kept apart from."""
SPENT_BEFORE_FILE = "spent_before.json"
"""In the folder of a stage that asks the instructor: what the run had spent when the stage was begun."""


def run(
    definition: TaskDefinition,
    config: RunConfig,
    *,
    path: Path | None = None,
    progress: Progress | None = None,
    fresh: Stage | None = None,
    until: Stage | None = None,
) -> RunDirectory:
    """Run the method, or what is left of it, in the directory ``path`` (``runs/NAME`` where none is given, NAME being
    the definition's); ends with the report.

    ``fresh`` redoes that stage and all later ones (and takes a changed config for them); ``until`` is the last stage
    to run. Without a test set everything but the evaluation is run. Raises TaskdefError and its kinds; RunError where
    another process works on the run.
    """
    from taskdef.synthesize.method import refuse_unfit_run

    refuse_unfit_run(definition, config)
    progress = progress or SilentProgress()
    path = Path("runs") / definition.name if path is None else path
    directory = RunDirectory.create(path, definition, config) if fresh is None else RunDirectory.open(path)
    with directory.locked():
        if fresh is not None:
            directory.reconfigure(definition, config, fresh=fresh)
        last = until or Stage.EVALUATE
        for stage in STAGES[: STAGES.index(last) + 1]:
            if directory.stage(stage).is_done():
                progress.line(f"{stage.value}: done before")
            elif stage is Stage.EVALUATE and definition.test is None:
                progress.line("evaluate: left out, the task definition names no test set")
            else:
                try:
                    _work_on(directory, stage, progress)
                except OutOfMemory:
                    write_report(directory)  # which says so too
                    raise
        write_report(directory)
    return directory


def run_stage(run: RunDirectory, stage: Stage, progress: Progress | None = None) -> Manifest:
    """Run one stage. Raises RunError where an earlier stage is not done, or where this one is done already, and where
    another process works on the run."""
    with run.locked():
        return _work_on(run, stage, progress or SilentProgress())


def _work_on(run: RunDirectory, stage: Stage, progress: Progress) -> Manifest:
    """Run one stage of a run that this process has locked."""
    directory = run.stage(stage)
    if directory.is_done():
        raise RunError(
            f"{run.path}: the stage {stage.value} is done already",
            next_step=f"taskdef run {run.quoted_path} --fresh {stage.value} redoes it and all later ones",
        )
    for earlier in run.stages()[: STAGES.index(stage)]:
        earlier.manifest()
    directory.open()
    (directory.path / FAULT_FILE).unlink(missing_ok=True)
    started = time.monotonic()
    try:
        artifacts, summary = _STAGES[stage](run, directory, progress)
    except BudgetReached as reached:
        raise _with_what_is_left(run, stage, reached) from None
    except OutOfMemory as fault:
        told = _with_the_way_on(run, stage, fault)
        directory.write_json(FAULT_FILE, {"sentence": told.message, "remedy": told.next_step})
        raise told from fault
    manifest = directory.finish(started=started, artifacts=artifacts, summary=summary)
    (directory.path / SPENT_BEFORE_FILE).unlink(missing_ok=True)
    return manifest


def _with_what_is_left(run: RunDirectory, stage: Stage, reached: BudgetReached) -> BudgetReached:
    """The same error, with what was left undone and how to go on."""
    later = ", ".join(following.value for following in STAGES[STAGES.index(stage) + 1 :])
    return BudgetReached(
        f"{reached.message}. Everything paid for is kept. Left undone: the rest of {stage.value}"
        + (f"; {later}" if later else ""),
        next_step=f"taskdef run {run.quoted_path} --budget MORE, where MORE is above {run.config.instruct.budget}",
    )


def _with_the_way_on(run: RunDirectory, stage: Stage, fault: OutOfMemory) -> OutOfMemory:
    """The same error, with the stage and the whole command."""
    if not fault.settings:
        return OutOfMemory(f"{stage.value}: {fault.message}", settings={}, next_step=fault.next_step)
    changes = " ".join(f"--set {key}={value}" for key, value in fault.settings.items())
    first = min((first for key in fault.settings if (first := first_stage(key))), key=STAGES.index, default=None)
    return OutOfMemory(
        f"{stage.value}: {fault.message}",
        settings=fault.settings,
        next_step=f"taskdef run {run.quoted_path} {changes}" + (f" --fresh {first.value}" if first else ""),
    )


def diagnosis_lines(run: RunDirectory) -> list[str]:
    """What went wrong in the run so far, as its report says it: a sentence and a remedy each."""
    from taskdef.report.diagnosis import diagnose
    from taskdef.report.gather import gather

    return [
        line for one in diagnose(gather(run)) for line in (f"{one.kind}: {one.sentence}", f"  remedy: {one.remedy}")
    ]


def write_report(run: RunDirectory) -> Path:
    """Render report.html from what the run holds so far."""
    from taskdef.report.render import render_report

    return render_report(run)


def _retrieve(run: RunDirectory, directory: StageDirectory, progress: Progress) -> StageResult:
    from taskdef.retrieve.stage import Retrieval, retrieve_passages

    if run.config.synthesize.human.file is not None:
        directory.write_records("passages.jsonl", [])
        directory.write_json("retrieval.json", Retrieval((), (), (), requested=0, method="none").to_json())
        return ["passages.jsonl", "retrieval.json"], {"kept": 0, "keywords": 0}

    async def work(instructor: Instructor) -> Any:
        return await retrieve_passages(
            run.definition, run.config.retrieve, instructor=instructor, seed=run.config.seed, progress=progress
        )

    retrieval, spending = _with_instructor(directory, work, progress)
    directory.write_records("passages.jsonl", retrieval.passages)
    directory.write_json("retrieval.json", retrieval.to_json())
    summary = {"kept": len(retrieval.passages), "keywords": len(retrieval.keywords), "spending": spending}
    return ["passages.jsonl", "retrieval.json"], summary


def _synthesize(run: RunDirectory, directory: StageDirectory, progress: Progress) -> StageResult:
    from taskdef.synthesize.pattern import find_pattern
    from taskdef.synthesize.stage import Tally, stream_samples

    if run.config.synthesize.human.file is not None:
        return _take_human_rows(run, directory, progress)
    passages = run.stage(Stage.RETRIEVE).read_records("passages.jsonl", Passage)
    settings = run.config.synthesize
    tally = Tally()
    with (
        _verifier(run) as verifier,
        directory.stream_records("samples.jsonl") as write_sample,
        directory.stream_records("drops.jsonl") as write_drop,
    ):
        test_file = _test_file_digest(run)
        test_inputs = [row.input for row in _test_rows(run, verifier)]

        async def work(instructor: Instructor) -> str:
            pattern = await find_pattern(run.definition, settings, instructor=instructor)
            async for outcome in stream_samples(
                run.definition,
                passages,
                settings,
                pattern=pattern,
                instructor=instructor,
                verifier=verifier,
                test_inputs=test_inputs,
                seed=run.config.seed,
                progress=with_spending(progress, instructor.meter, synthesis_outlook(run.config, tally)),
            ):
                tally.count(outcome)
                (write_sample if isinstance(outcome, Sample) else write_drop)(outcome)
            return pattern

        pattern, spending = _with_instructor(directory, work, progress)
    directory.write_json("pattern.json", {"pattern": pattern})
    return ["samples.jsonl", "drops.jsonl", "pattern.json"], {
        "kept": tally.samples,
        "drafts": tally.drafts,
        "dropped": tally.drops_by_reason(),
        "spending": spending,
        **({TEST_FILE_DIGEST: test_file} if test_file else {}),
    }


def _take_human_rows(run: RunDirectory, directory: StageDirectory, progress: Progress) -> StageResult:
    """Samples from a file of human examples: the baseline."""
    from taskdef.definition.testset import read_gold_answers, read_human_rows
    from taskdef.synthesize.human import HumanRow, draw_human_samples

    path = run.config.synthesize.human.file
    assert path is not None
    raw = read_human_rows(run.definition, path)
    with _verifier(run) as verifier:
        test_file = _test_file_digest(run)
        gold = read_gold_answers(run.definition.answer, verifier, [row.output for row in raw])
        rows = [
            HumanRow(number, row.input, row.output, reading.answer, reading.failure)
            for number, (row, reading) in enumerate(zip(raw, gold, strict=True), start=1)
        ]
        found = draw_human_samples(
            run.definition,
            rows,
            run.config.synthesize,
            test_inputs=[row.input for row in _test_rows(run, verifier)],
            seed=run.config.seed,
        )
    progress.line(f"{len(found.samples):,} of {found.rows:,} human rows taken, {len(found.drops):,} cannot be used")
    directory.write_records("samples.jsonl", found.samples)
    directory.write_records("drops.jsonl", found.drops)
    directory.write_json("pattern.json", {"pattern": ""})
    return ["samples.jsonl", "drops.jsonl", "pattern.json"], {
        **found.summary(),
        "human_file": file_digest(path),
        **({TEST_FILE_DIGEST: test_file} if test_file else {}),
    }


def _adapt(run: RunDirectory, directory: StageDirectory, progress: Progress) -> StageResult:
    from taskdef.adapt.stage import Adaptation, adapt_difficulty, attempt_greedily, drop_too_long
    from taskdef.policy.attempts import AttemptFile

    _refuse_other_test_file(run)
    initial = run.stage(Stage.SYNTHESIZE).read_records("samples.jsonl", Sample)
    pattern = run.stage(Stage.SYNTHESIZE).read_json("pattern.json")["pattern"]
    with _verifier(run) as verifier:
        policy = _load_policy(run, run.config.base_model)
        samples, too_long = drop_too_long(initial, policy, Stage.ADAPT)
        attempts = attempt_greedily(
            policy,
            samples,
            verifier=verifier,
            label="attempt samples",
            file=AttemptFile(directory, "attempts-base.jsonl"),
            progress=progress,
        )
        warm_up, policy = _warm_up(run, directory, policy, samples, attempts, verifier, progress)
        if warm_up.done:
            attempts = attempt_greedily(
                policy,
                samples,
                verifier=verifier,
                label="attempt samples after warm-up",
                file=AttemptFile(directory, "attempts-warm_up.jsonl"),
                progress=progress,
            )
        test_inputs = [row.input for row in _test_rows(run, verifier)]

        async def work(instructor: Instructor) -> Any:
            return await adapt_difficulty(
                run.definition,
                samples,
                attempts,
                run.config,
                instructor=instructor,
                verifier=verifier,
                test_inputs=test_inputs,
                pattern=pattern,
                progress=with_spending(progress, instructor.meter),
            )

        if run.config.adapt.enabled:
            adaptation, spending = _with_instructor(directory, work, progress)
        else:
            adaptation, spending = Adaptation(tuple(samples), (), tuple(attempts)), asdict(Spending())
        kept, rewrites_too_long = drop_too_long(adaptation.samples, policy, Stage.ADAPT)
    drops = [*too_long, *adaptation.drops, *rewrites_too_long]
    directory.write_records("samples.jsonl", kept)
    directory.write_records("drops.jsonl", drops)
    directory.write_records("attempts.jsonl", adaptation.attempts)
    by_model = sorted(path.name for path in directory.path.glob("attempts-*.jsonl"))
    artifacts = ["samples.jsonl", "drops.jsonl", "attempts.jsonl", "warm_up.json", *by_model]
    return artifacts, {**adaptation.summary(kept, drops), "warm_up_steps": warm_up.steps, "spending": spending}


def _select(run: RunDirectory, directory: StageDirectory, progress: Progress) -> StageResult:
    from taskdef.policy.attempts import AttemptFile
    from taskdef.select.stage import select_samples

    samples = run.stage(Stage.ADAPT).read_records("samples.jsonl", Sample)
    with _verifier(run) as verifier:
        selection = select_samples(
            samples,
            run.config.select,
            policy=_load_sampler(run, starting_model(run)),
            verifier=verifier,
            seed=run.config.seed,
            file=AttemptFile(directory, "attempts.jsonl"),
            progress=progress,
        )
    directory.write_records("pass_rates.jsonl", selection.rates)
    directory.write_records("selected.jsonl", selection.selected)
    return ["attempts.jsonl", "pass_rates.jsonl", "selected.jsonl"], selection.summary()


def _train(run: RunDirectory, directory: StageDirectory, progress: Progress) -> StageResult:
    from taskdef.train.loop import LOG_FILE
    from taskdef.train.stage import summarise, train_policy

    scored, own_start = run.stage(Stage.SELECT), run.config.train.start
    with _verifier(run) as verifier:
        training = train_policy(
            run.definition,
            scored.read_records("selected.jsonl", Sample),
            run.config,
            start=own_start or starting_model(run),
            model_path=run.model_path,
            verifier=verifier,
            directory=directory,
            recorded=[] if own_start else scored.read_partial("attempts.jsonl", Attempt),
            progress=progress,
        )
    return [LOG_FILE, *training.artifacts], summarise(training, run.config.train.method)


def _evaluate(run: RunDirectory, directory: StageDirectory, progress: Progress) -> StageResult:
    from taskdef.evaluate.stage import artifact_names, evaluate_models, summarise
    from taskdef.policy.load import refuse_unfit_model

    _refuse_other_test_file(run)
    models: dict[str, Callable[[], TokenPolicy]] = {"base": lambda: _load_sampler(run, run.config.base_model)}
    if _warm_up_record(run).done:
        models["warm_up"] = lambda: _load_sampler(run, starting_model(run))
    models["tuned"] = lambda: _load_sampler(run, run.model_path)
    with _verifier(run) as verifier:
        rows = _test_rows(run, verifier)[: run.config.evaluate.limit]
        places = [(f"held-out row {row.id}", row.input) for row in rows]
        refuse_unfit_model(run.config.base_model, run.definition, run.config.policy, places)
        evaluation = evaluate_models(
            run.definition,
            rows,
            models,
            verifier=verifier,
            seed=run.config.seed,
            directory=directory,
            progress=progress,
        )
    return artifact_names(evaluation), summarise(evaluation)


StageResult = tuple[list[str], dict[str, Any]]
"""The stage's artifacts and the summary for its manifest."""

_STAGES: Mapping[Stage, Callable[[RunDirectory, StageDirectory, Progress], StageResult]] = {
    Stage.RETRIEVE: _retrieve,
    Stage.SYNTHESIZE: _synthesize,
    Stage.ADAPT: _adapt,
    Stage.SELECT: _select,
    Stage.TRAIN: _train,
    Stage.EVALUATE: _evaluate,
}


def starting_model(run: RunDirectory) -> str | Path:
    """The model that is scored and that training starts from: the warm-up's where there was one, else the base."""
    if _warm_up_record(run).done:
        return run.stage(Stage.ADAPT).path / WARM_UP_FOLDER
    return run.config.base_model


def _warm_up_record(run: RunDirectory) -> WarmUp:
    return WarmUp.model_validate(run.stage(Stage.ADAPT).read_json("warm_up.json"))


def _warm_up(
    run: RunDirectory,
    directory: StageDirectory,
    policy: TransformersPolicy,
    samples: list[Sample],
    attempts: list[Any],
    verifier: Verifier,
    progress: Progress,
) -> tuple[WarmUp, TransformersPolicy]:
    """Warm the base model up where that is needed; gives the record and the policy to go on with."""
    from taskdef.policy.attempts import readable_share
    from taskdef.policy.load import save_checkpoint
    from taskdef.policy.warm_up import needs_warm_up, warm_up_policy

    if (directory.path / "warm_up.json").exists():  # a process that was stopped later in this stage did it
        record = _warm_up_record(run)
        return record, _load_policy(run, starting_model(run)) if record.done else policy
    readable = readable_share(attempts)
    needed, reason = needs_warm_up(run.config.warm_up, readable)
    progress.line(f"warm-up {'needed' if needed else 'not needed'}: {reason}")
    if needed and samples:
        record = warm_up_policy(
            policy,
            samples,
            run.config.warm_up,
            readable_before=readable,
            reason=reason,
            verifier=verifier,
            seed=run.config.seed,
            progress=progress,
        )
        save_checkpoint(policy.model, policy.tokenizer, directory.path / WARM_UP_FOLDER)
    else:
        record = WarmUp(done=False, reason=reason, readable_before=readable)
    directory.write_json("warm_up.json", record.model_dump(mode="json"))
    return record, policy


def _load_policy(run: RunDirectory, source: str | Path) -> TransformersPolicy:
    from taskdef.policy.load import load_policy

    return load_policy(source, run.definition, run.config.policy)


def _load_sampler(run: RunDirectory, source: str | Path) -> TokenPolicy:
    from taskdef.policy.load import load_sampler

    return load_sampler(source, run.definition, run.config.policy)


def _test_rows(run: RunDirectory, verifier: Verifier) -> list[TestRow]:
    """All held-out rows; evaluation may look at fewer, but no sample may overlap with any."""
    return load_test_rows(run.definition, verifier) if run.definition.test is not None else []


def _test_file_digest(run: RunDirectory) -> str | None:
    """SHA-256 of the local test file; None where there is none (load_test_rows says what is wrong with it)."""
    test = run.definition.test
    return file_digest(test.path) if test is not None and test.path is not None and test.path.is_file() else None


def _refuse_other_test_file(run: RunDirectory) -> None:
    """Raise RunError where the test file is not the one that samples were kept apart from."""
    known, found = run.stage(Stage.SYNTHESIZE).manifest().summary.get(TEST_FILE_DIGEST), _test_file_digest(run)
    if known is not None and found is not None and known != found:
        assert run.definition.test is not None
        raise RunError(
            f"{run.definition.test.path}: changed since the samples were kept apart from it",
            next_step=f"put the earlier file back, or taskdef run {run.quoted_path} --fresh {Stage.SYNTHESIZE.value}",
        )


@contextmanager
def _verifier(run: RunDirectory) -> Iterator[Verifier]:
    with Verifier(run.definition.answer, run.config.verify.timeout_seconds) as verifier:
        yield verifier


def _with_instructor(
    directory: StageDirectory, work: Callable[[Instructor], Any], progress: Progress
) -> tuple[Any, dict[str, Any]]:
    """Run a coroutine function with the run's instructor; gives its result and what the stage cost.

    Instructors with a ledger count the whole run: the cost is what was added since the stage was begun, by an earlier
    process if one was stopped in it, so that the stages' costs add up.
    """
    run = directory.run

    def spent_before(instructor: Instructor) -> Spending:
        if not (directory.path / SPENT_BEFORE_FILE).exists():
            directory.write_json(SPENT_BEFORE_FILE, asdict(instructor.spending()))
        return Spending(**directory.read_json(SPENT_BEFORE_FILE))

    async def inside() -> tuple[Any, dict[str, Any]]:
        instructor = load_instructor(
            run.config.instructor,
            ledger_path=run.ledger_path,
            config=run.config.instruct,
            seed=run.config.seed,
            also_known=[run.preview_path],  # what a preview asked is what this run would ask
            say=progress.line,
        )
        with answers_kept(lambda: instructor.in_flight):
            try:
                before = spent_before(instructor)
                result = await work(instructor)
                return result, asdict(instructor.spending().since(before))
            finally:
                await close_instructor(instructor, progress)

    done: tuple[Any, dict[str, Any]] = asyncio.run(inside())
    return done

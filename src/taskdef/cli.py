"""The command line: verbs are the stages' names. Parse, call, print; every heavy import waits inside its command."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from taskdef import __version__
from taskdef.errors import ConfigError, DefinitionError, TaskdefError
from taskdef.readable import duration
from taskdef.terminal import going_on_with, print_error, progress_on_stderr, tolerate_any_encoding

if TYPE_CHECKING:
    from taskdef.compare.comparison import Comparison
    from taskdef.definition.load import LoadedDefinition
    from taskdef.progress import Progress
    from taskdef.request import RunRequest

StageName = Literal["retrieve", "synthesize", "adapt", "select", "train", "evaluate"]
"""The values of records.Stage, written out: importing records costs half of what ``--help`` may take."""

MethodName = Literal["grpo", "ppo", "rloo", "sft", "rft", "dpo", "stepwise"]
"""The values of config.TrainConfig.method, written out for the same reason."""

FormatName = Literal[
    "prompts", "prompt-completion", "messages", "preference", "stepwise", "verl", "dataset", "model", "calls"
]
"""The names in export.formats.FORMATS, for the same reason."""

app = typer.Typer(
    name="taskdef",
    help="A task definition in, a reinforcement-tuned model out: no human labels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # bugs keep Python's own traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
_START, _STAGES, _LOOK = "Start here", "One stage of a run, in the data's order", "Look"

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory.", show_default=False)]
TestOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Held-out rows, in place of the task's.")]
TaskOrRun = Annotated[
    str,
    typer.Argument(
        metavar="TASK|RUN", help="A task.yaml or a pack's name; or a run's directory, to go on.", show_default=False
    ),
]
NameOption = Annotated[str | None, typer.Option(metavar="NAME", help="The run's name; the task's where none.")]
RunsOption = Annotated[Path, typer.Option(metavar="DIR", help="Where runs are kept.")]
BaseModelOption = Annotated[
    str | None, typer.Option(metavar="MODEL", help="A path, a hub id, or builtin:smollm2-135m.")
]
InstructorOption = Annotated[
    str | None, typer.Option(metavar="SPEC", help="openai:MODEL\\[@URL], procedural:GENERATOR or scripted:FILE.")
]
ProfileOption = Annotated[
    Literal["small", "paper"] | None, typer.Option(help="Sizes: for small models and CPUs, or the paper's.")
]
ConfigOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Settings in YAML.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting; may be repeated.")
]
SeedOption = Annotated[int | None, typer.Option(metavar="N", help="Seed of everything drawn by chance.")]
PassagesOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="Library, in place of the task's; may be repeated."),
]
BudgetOption = Annotated[
    str | None, typer.Option(metavar="AMOUNT", help="Cap on instructor calls: 5usd, 2Mtokens, 500calls.")
]
CacheOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Answers shared between runs: none is paid for twice.")
]


def main() -> None:
    """Entry point. Exit codes: 0 done, 2 a fault the user can act on, 130 stopped by Ctrl-C."""
    tolerate_any_encoding()
    try:
        app()
    except TaskdefError as error:
        sys.exit(print_error(error))


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"taskdef {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of taskdef itself; the callback above has acted on them."""


@app.command(rich_help_panel=_START)
def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("task.yaml"),
) -> None:
    """Write a commented task.yaml to fill in."""
    from taskdef.definition.init import template

    try:
        with file.open("x", encoding="utf-8") as output:
            output.write(template())
    except FileExistsError:
        raise DefinitionError(
            f"{file}: exists already, and init never overwrites", next_step=f"taskdef check {shlex.quote(str(file))}"
        ) from None
    except OSError as error:
        raise DefinitionError(
            f"{file}: cannot be written: {error.strerror}", next_step="taskdef init in a folder of your own"
        ) from None
    print(f"wrote {file}\nnext: fill it in, then taskdef check {shlex.quote(str(file))}")


@app.command(rich_help_panel=_START)
def check(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task.yaml, or a pack's name.", show_default=False)],
    test: TestOption = None,
) -> None:
    """Lint a task definition before anything is spent."""
    from taskdef.definition.packs import resolve_loaded

    if errors := _print_findings(resolve_loaded(task, test)):
        raise DefinitionError(f"{task}: {errors}", next_step=f"mend it, then: taskdef check {shlex.quote(task)}")
    print(f"{task}: in order")


@app.command(rich_help_panel=_START)
def packs() -> None:
    """List the known tasks."""
    from taskdef.definition.packs import pack_table
    from taskdef.show import print_table

    print_table(("pack", "test set", "task"), [(row.name, row.test_set, row.summary) for row in pack_table()])


@app.command(rich_help_panel=_START)
def preview(
    task: TaskOrRun,
    samples: Annotated[int, typer.Option(metavar="N", min=1, help="How many samples to make.")] = 5,
    name: NameOption = None,
    runs_dir: RunsOption = Path("runs"),
    base_model: BaseModelOption = None,
    instructor: InstructorOption = None,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    seed: SeedOption = None,
    test: TestOption = None,
    passages: PassagesOption = None,
    budget: BudgetOption = None,
    cache: CacheOption = None,
) -> None:
    """A handful of samples through every stage; what the full run will take."""
    request = _resolve(
        task,
        runs_dir=runs_dir,
        name=name,
        profile=profile,
        config_file=config,
        settings=settings,
        named=_named(base_model, instructor, seed, budget, cache),
        test=test,
        passages=passages,
    )
    with going_on_with(request.preview_path), progress_on_stderr() as progress:
        _refuse_unfit(request, task, progress)
        from taskdef.preview.take import refuse_fruitless, take_preview

        found = take_preview(request, samples, progress)
    from taskdef.preview.text import print_preview

    print_preview(found)
    if found.stopped is not None:
        raise found.stopped
    refuse_fruitless(found)


@app.command(rich_help_panel=_START)
def run(
    task: TaskOrRun,
    name: NameOption = None,
    runs_dir: RunsOption = Path("runs"),
    base_model: BaseModelOption = None,
    instructor: InstructorOption = None,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    seed: SeedOption = None,
    test: TestOption = None,
    passages: PassagesOption = None,
    fresh: Annotated[StageName | None, typer.Option(help="Redo this stage and all later ones.")] = None,
    until: Annotated[StageName | None, typer.Option(help="Stop after this stage.")] = None,
    budget: BudgetOption = None,
    cache: CacheOption = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Ask through OpenAI's Batch API: half the price, within a day.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; spend and create nothing.")] = False,
) -> None:
    """Run the whole method, or go on with a run that was stopped."""
    from taskdef.records import Stage

    request = _resolve(
        task,
        runs_dir=runs_dir,
        name=name,
        profile=profile,
        config_file=config,
        settings=settings,
        named=_named(base_model, instructor, seed, budget, cache) | {"instruct.batch": batch or None},
        test=test,
        passages=passages,
        fresh=Stage(fresh) if fresh else None,
        until=Stage(until) if until else None,
    )
    if dry_run:
        from taskdef.plan import render_plan

        print(render_plan(request))
        return
    with going_on_with(request.path), progress_on_stderr() as progress:
        if request.is_new or request.fresh is not None:
            _refuse_unfit(request, task, progress)
        from taskdef import pipeline

        done = pipeline.run(
            request.definition,
            request.config,
            path=request.path,
            progress=progress,
            fresh=request.fresh,
            until=request.until,
        )
    from taskdef.show import closing_lines

    print("\n".join(closing_lines(done, pipeline.diagnosis_lines(done))))


@app.command(rich_help_panel=_STAGES)
def retrieve(
    run: RunArgument,
    audit: Annotated[bool, typer.Option("--audit", help="Have a random sample of the passages graded.")] = False,
    grades: Annotated[int, typer.Option(metavar="N", min=1, help="How many passages an audit grades.")] = 50,
    by_hand: Annotated[bool, typer.Option("--by-hand", help="You grade, in place of the instructor.")] = False,
) -> None:
    """1. Keywords from the instructor, passages from the libraries."""
    if by_hand and not audit:
        where = shlex.quote(str(run))
        raise ConfigError("--by-hand: goes with --audit", next_step=f"taskdef retrieve {where} --audit --by-hand")
    if not audit:
        _run_stage(run, "retrieve")
        return
    from taskdef.grading import grade_by_hand
    from taskdef.request import open_run

    opened = open_run(run)
    with going_on_with(run), progress_on_stderr() as progress:
        from taskdef.audit import audit_passages
        from taskdef.retrieve.audit import audit_lines

        found = audit_passages(opened, grades=grades, by_hand=grade_by_hand if by_hand else None, progress=progress)
    print("\n".join(audit_lines(found, opened.quoted_path)))


@app.command(rich_help_panel=_STAGES)
def synthesize(run: RunArgument) -> None:
    """2. Samples written from passages, each label put to the vote."""
    _run_stage(run, "synthesize")


@app.command(rich_help_panel=_STAGES)
def adapt(run: RunArgument) -> None:
    """3. Solved samples rewritten harder, unsolved ones easier."""
    _run_stage(run, "adapt")


@app.command(rich_help_panel=_STAGES)
def select(run: RunArgument) -> None:
    """4. Pass rates of the base model, and the training set."""
    _run_stage(run, "select")


@app.command(rich_help_panel=_STAGES)
def train(
    run: RunArgument,
    method: Annotated[
        MethodName | None, typer.Option(help="Another than the run's own: in a run beside it, on the same samples.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, train.*; may be repeated.")
    ] = None,
) -> None:
    """5. Learning from the training set: by reinforcement, or another method."""
    if method is None and not settings:
        _run_stage(run, "train")
        return
    from taskdef.branch import run_for_method
    from taskdef.request import open_run, read_settings

    chosen = {} if method is None else {"train.method": method}
    with going_on_with(run):
        other = run_for_method(open_run(run), read_settings(settings or []) | chosen)
    _run_stage(other.path, "train")
    print(f"next: taskdef run {other.quoted_path}")


@app.command(rich_help_panel=_STAGES)
def evaluate(run: RunArgument) -> None:
    """6. Base, warm-up and tuned model on held-out rows."""
    _run_stage(run, "evaluate")


@app.command(rich_help_panel=_STAGES)
def report(run: RunArgument) -> None:
    """One offline page of everything the run did and measured."""
    from taskdef.request import open_run

    opened = open_run(run)
    with going_on_with(run):
        from taskdef import pipeline

        print(pipeline.write_report(opened))


@app.command(rich_help_panel=_START)
def compare(
    plan: Annotated[
        str,
        typer.Argument(
            metavar="PLAN|COMPARISON", help="A plan's file or name; or a comparison's directory.", show_default=False
        ),
    ],
    task: Annotated[str | None, typer.Option(metavar="TASK", help="A task.yaml or a pack's name.")] = None,
    name: NameOption = None,
    runs_dir: RunsOption = Path("runs"),
    base_model: BaseModelOption = None,
    instructor: InstructorOption = None,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    seeds: Annotated[str | None, typer.Option(metavar="N,N", help="Seeds, in place of the plan's.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="VARIANT", help="Not all variants; may be repeated.")
    ] = None,
    human: Annotated[Path | None, typer.Option(metavar="FILE", help="Examples made by people, in JSON lines.")] = None,
    test: TestOption = None,
    passages: PassagesOption = None,
    cache: CacheOption = None,
    assume: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="With --dry-run: a figure that it reckons with.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the matrix and what it takes; create nothing.")
    ] = False,
    print_plan: Annotated[bool, typer.Option("--print", help="Print the plan, to edit a copy.")] = False,
) -> None:
    """Variants x seeds of a task; what they share is done once."""
    from taskdef.compare.plan import plan_text

    if print_plan:
        print(plan_text(plan), end="")
        return
    from taskdef.compare.resolve import Given, read_seeds, resolve_comparison
    from taskdef.config import scalar
    from taskdef.request import read_settings

    named = {
        "base_model": base_model,
        "instructor": instructor,
        "instruct.cache": None if cache is None else str(cache),
    }
    comparison, loaded = resolve_comparison(
        plan,
        Given(
            task=task,
            name=name,
            runs_dir=runs_dir,
            profile=profile,
            config_file=config,
            settings={key: scalar(text) for key, text in read_settings(settings or []).items()}
            | {key: text for key, text in named.items() if text is not None},
            seeds=read_seeds(seeds),
            only=only or [],
            human=human,
            test=test,
            passages=passages or [],
        ),
    )
    if dry_run:
        from taskdef.compare.outlook import print_outlook
        from taskdef.compare.reckoning import Assumptions

        print_outlook(comparison, Assumptions.given(assume or []))
        return
    with going_on_with(comparison.path, verb="compare", file="comparison.yaml"), progress_on_stderr() as progress:
        if comparison.is_new:
            _refuse_unfit_comparison(comparison, loaded, progress)
        comparison.begin()
        from taskdef.compare.page import write_pages
        from taskdef.compare.run import run_comparison

        try:
            run_comparison(comparison, progress)
        finally:
            page = write_pages(comparison)
    print(f"report: {page}")


@app.command(rich_help_panel=_LOOK)
def show(
    run: RunArgument,
    calls: Annotated[bool, typer.Option("--calls", help="What was asked of the instructor, and what it cost.")] = False,
) -> None:
    """Where a run stands, what it has spent, what is next."""
    from taskdef.request import open_run
    from taskdef.show import print_calls, print_run

    (print_calls if calls else print_run)(open_run(run))


@app.command(rich_help_panel=_LOOK)
def export(
    run: RunArgument,
    to: Annotated[FormatName | None, typer.Option("--to", help="The form.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Argument(metavar="[OUT]", help="A new file or folder; rows go to stdout where not given."),
    ] = None,
    samples: Annotated[
        Literal["training", "all"] | None, typer.Option(help="The training set (default), or all that were scored.")
    ] = None,
    style: Annotated[
        Literal["chat", "plain"] | None, typer.Option(help="Prompts as messages or text; the model's own by default.")
    ] = None,
    data_source: Annotated[
        str | None, typer.Option(metavar="NAME", help="verl: the name by which it chooses a reward.")
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Also to the hub, private; the token is HF_TOKEN's.")
    ] = None,
    calls: Annotated[bool, typer.Option("--calls", help="The same as --to calls.")] = False,
) -> None:
    """Write what a run holds in a form for other tools."""
    from taskdef.request import open_run

    opened = open_run(run)
    if calls and to in (None, "calls"):
        to = "calls"
    elif calls or to is None:
        raise ConfigError(
            f"--calls and --to {to}: one form at a time" if calls else "in which form? --to is missing",
            next_step=f"taskdef export {opened.quoted_path} --to FORM, one of: {', '.join(get_args(FormatName))}",
        )
    from taskdef.export.formats import Choices, export_run

    export_run(opened, to, out, Choices(samples=samples, style=style, data_source=data_source, push=push))


@app.command(rich_help_panel=_LOOK)
def analyze(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="A run, or several to compare.", show_default=False)
    ],
    human: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Human data to compare with: rows with input and output.")
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="Human rows that the starting model attempts.")] = 200,
    attempts: Annotated[
        int, typer.Option(metavar="N", min=0, help="Attempts on each; 0 leaves human pass rates out.")
    ] = 16,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where figures go; the folder analysis of the first run.")
    ] = None,
) -> None:
    """What the data is like, beside human data; several runs' training."""
    from taskdef.request import open_run

    opened = [open_run(path) for path in runs]
    if len(opened) > 1 and human is not None:
        where = shlex.quote(str(runs[0]))
        raise ConfigError("--human: goes with one run", next_step=f"taskdef analyze {where} --human FILE")
    folder = out or opened[0].path / "analysis"
    with going_on_with(runs[0]), progress_on_stderr() as progress:
        from taskdef.analyze import run as analysis

        files = (
            analysis.compare_runs(opened, folder)
            if len(opened) > 1
            else analysis.describe_run(opened[0], folder, human, rows=rows, attempts=attempts, progress=progress)
        )
    print("\n".join(map(str, files)))


def _named(
    base_model: str | None, instructor: str | None, seed: int | None, budget: str | None, cache: Path | None
) -> dict[str, object]:
    """Settings that have an option of their own."""
    return {
        "base_model": base_model,
        "instructor": instructor,
        "seed": seed,
        "instruct.budget": budget,
        "instruct.cache": None if cache is None else str(cache),
    }


def _resolve(
    task: str, *, settings: list[str] | None, named: dict[str, object], passages: list[Path] | None, **rest: Any
) -> RunRequest:
    """What the options of ``run`` and ``preview`` ask for. Raises as request.resolve_request does."""
    from taskdef.request import read_settings, resolve_request

    # Quoted: settings are read as YAML, which would take a model named 7 for a number.
    overrides = read_settings(settings or []) | {
        key: json.dumps(value) for key, value in named.items() if value is not None
    }
    return resolve_request(task, overrides=overrides, passages=passages or [], **rest)


def _refuse_unfit(request: RunRequest, task: str, progress: Progress) -> None:
    """Check definition, instructor and base model before anything is spent. Raises TaskdefError and its kinds."""
    from taskdef.request import try_base_model, try_instructor

    progress.line(f"checking {request.definition.name}, instructor and base model before anything is spent")
    try_instructor(request.config)
    if errors := _print_findings(request.loaded, request.config.verify.timeout_seconds):
        raise DefinitionError(
            f"{task}: {errors}; nothing was spent",
            next_step=f"mend it, then: taskdef check {shlex.quote(task)}",
        )
    try_base_model(request.config, request.definition)


def _refuse_unfit_comparison(comparison: Comparison, loaded: LoadedDefinition, progress: Progress) -> None:
    """The same for a comparison: each instructor and each base model once."""
    from taskdef.request import try_base_model, try_instructor

    progress.line(f"checking {loaded.definition.name}, instructors and base models before anything is spent")
    cells = comparison.matrix.runs()
    for cell in {cell.config.instructor: cell for cell in cells}.values():
        try_instructor(cell.config)
    if errors := _print_findings(loaded, cells[0].config.verify.timeout_seconds):
        raise DefinitionError(f"{loaded.definition.name}: {errors}; nothing was spent", next_step="mend it first")
    for cell in {cell.config.base_model: cell for cell in cells}.values():
        try_base_model(cell.config, cell.definition)


def _run_stage(path: Path, name: StageName) -> None:
    from taskdef.records import Stage
    from taskdef.request import open_run
    from taskdef.show import counts_text

    opened = open_run(path)
    with going_on_with(path), progress_on_stderr() as progress:
        from taskdef import pipeline

        manifest = pipeline.run_stage(opened, Stage(name), progress)
    print(f"{name}: done in {duration(manifest.seconds)}; {counts_text(manifest)}")
    if name == "train":
        print("".join(f"{line}\n" for line in pipeline.diagnosis_lines(opened)), end="")


def _print_findings(loaded: LoadedDefinition, timeout_seconds: float | None = None) -> str:
    """Print what the linter finds, on stderr. Gives ``"2 errors"`` where something must be mended, else nothing.

    ``timeout_seconds`` is the run's time limit for one reading; the default's where there is no run.
    """
    from functools import partial

    from taskdef.config import VerifyConfig
    from taskdef.definition.check import Severity, check_definition
    from taskdef.verify.isolated import Verifier

    limit = VerifyConfig().timeout_seconds if timeout_seconds is None else timeout_seconds
    findings = check_definition(loaded, make_verifier=partial(Verifier, timeout_seconds=limit))
    for finding in findings:
        print(finding, file=sys.stderr)
    count = sum(finding.severity is Severity.ERROR for finding in findings)
    return f"{count} error{'s' if count > 1 else ''}" if count else ""

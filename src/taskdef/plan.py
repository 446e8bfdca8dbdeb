"""What a run would do, worked out before anything is spent: the request resolved, its sizes, its calls.

Counts are upper bounds where chance decides (drops, early stops); they follow from the settings alone, so a plan
needs neither the instructor nor the base model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taskdef.config import RunConfig, build_config, flatten
from taskdef.definition.load import LoadedDefinition
from taskdef.definition.packs import resolve_loaded
from taskdef.errors import ConfigError, RunError
from taskdef.records import PassageSource, Stage, TaskDefinition
from taskdef.store import RUN_FILE, STAGES, RunDirectory


@dataclass(frozen=True)
class RunRequest:
    """What the command line asks for, resolved."""

    loaded: LoadedDefinition
    """The definition, with file and line of its parts where it was read from a file."""
    config: RunConfig
    path: Path
    """The run's directory; it need not exist yet."""
    fresh: Stage | None = None
    until: Stage | None = None

    @property
    def definition(self) -> TaskDefinition:
        return self.loaded.definition

    @property
    def is_new(self) -> bool:
        return not (self.path / RUN_FILE).exists()


def resolve_request(
    task: str,
    *,
    runs_dir: Path,
    name: str | None,
    profile: str | None,
    config_file: Path | None,
    overrides: Mapping[str, Any],
    test: Path | None,
    passages: Sequence[Path],
    fresh: Stage | None,
    until: Stage | None,
) -> RunRequest:
    """Find the definition, the settings and the directory of a run; nothing is created.

    ``task`` is an existing run's directory (its own definition and settings then hold, with what is given here on
    top), a folder with a task.yaml, a task.yaml, or a pack's name. Raises DefinitionError, ConfigError or RunError.
    """
    files = [config_file] if config_file is not None else []
    if (Path(task) / RUN_FILE).is_file():
        run = open_run(Path(task))
        own = {"name": name, "profile": profile, "test": test, "passages": passages or None}
        if given := [f"--{option}" for option, value in own.items() if value is not None]:
            raise ConfigError(
                f"{task}: is a run, which has its own; given: {', '.join(given)}",
                next_step=f"taskdef run {task} goes on as it was begun; a new run starts from a TASK",
            )
        loaded, path = LoadedDefinition(run.definition), run.path
        config = build_config(files=files, overrides=dict(overrides), base=run.config)
    else:
        loaded = resolve_loaded(task, test)
        path = runs_dir / _checked_name(name or loaded.definition.name)
        config = build_config(profile=profile, files=files, overrides=dict(overrides))
        if passages:
            sources = tuple(PassageSource(path=library.expanduser().resolve()) for library in passages)
            loaded = replace(loaded, definition=loaded.definition.model_copy(update={"passages": sources}))
    request = RunRequest(loaded, config, path, fresh, until)
    if fresh is None and not request.is_new:
        open_run(path).refuse_changes(request.definition, config)
    return request


def open_run(path: Path) -> RunDirectory:
    """Open a run given by its directory. Raises RunError, with the likely directory where only the name was given."""
    likely = Path("runs") / path
    try:
        if not (path / RUN_FILE).is_file() and (likely / RUN_FILE).is_file():
            raise RunError(f"{path}: not a run (no {RUN_FILE})", next_step=f"give its directory: {likely}")
        return RunDirectory.open(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be opened as a run: {error.strerror}", next_step="give its directory") from None


def read_settings(pairs: Sequence[str]) -> dict[str, str]:
    """``key=value`` texts as dotted overrides. Raises ConfigError for a text without ``=``."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {pair}: expected KEY=VALUE", next_step="for instance --set select.size=200")
        settings[key.strip()] = value.strip()
    return settings


@dataclass(frozen=True)
class Estimate:
    """Sizes and calls of a run, upper bounds where chance decides."""

    keyword_calls: int
    pattern_calls: int
    drafts: int
    """Drafts where nothing is dropped."""
    most_drafts: int
    votes: int
    """Answers asked for each draft; 0 where labels are right by construction."""
    rewrites: int
    pool: int
    """Samples scored: initial, harder and easier."""
    selected: int
    steps: int
    test_rows: int | None
    """None where the rows are on the hub and their number is not known yet."""
    greedy_attempts: int
    scoring_attempts: int
    rollouts: int
    test_attempts: int | None
    """Greedy attempts on the test rows by base, warm-up and tuned model."""

    @property
    def instructor_calls(self) -> int:
        drafts_and_rewrites = self.most_drafts + self.rewrites
        return self.keyword_calls + self.pattern_calls + drafts_and_rewrites * (1 + self.votes)

    @property
    def attempts(self) -> int:
        """Completions of the base model and its successors."""
        return self.greedy_attempts + self.scoring_attempts + self.rollouts + (self.test_attempts or 0)


def estimate(definition: TaskDefinition, config: RunConfig) -> Estimate:
    """Work out sizes and calls from definition and settings alone."""
    samples = config.synthesize.samples
    by_construction = config.instructor.startswith("procedural:")
    adapted = samples if config.adapt.enabled else 0
    pool = samples + adapted
    selected = pool if config.select.strategy == "all" else min(config.select.size, pool)
    by_epochs = math.ceil(config.train.epochs * selected / config.train.batch)
    steps = config.train.max_steps or by_epochs
    rows = _test_rows(definition, config)
    return Estimate(
        keyword_calls=1 if definition.passages else 0,  # without libraries there is nothing to search
        pattern_calls=1 if definition.demos and config.synthesize.pattern else 0,
        drafts=samples,
        most_drafts=math.ceil(samples * config.synthesize.max_draft_factor),
        votes=0 if by_construction else config.synthesize.votes,
        rewrites=adapted,
        pool=pool,
        selected=selected,
        steps=steps,
        test_rows=rows,
        greedy_attempts=adapted,
        scoring_attempts=pool * config.select.attempts,
        rollouts=steps * config.train.batch * config.train.completions,
        test_attempts=None if rows is None else 3 * rows,
    )


def render_plan(request: RunRequest) -> str:
    """The plan as text: stages with their sizes, totals, and every setting, marked where it is not the paper's."""
    definition, config = request.definition, request.config
    sizes = estimate(definition, config)
    lines = [
        f"plan for {request.path} ({'new' if request.is_new else 'exists; finished stages are kept'})",
        f"  task        {definition.name}",
        f"  instructor  {config.instructor or 'none given; see --instructor'}",
        f"  base model  {config.base_model}",
        "",
    ]
    state, what = _stage_states(request), _stage_lines(definition, config, sizes)
    for number, stage in enumerate(STAGES, start=1):
        lines += [f"{number} {stage.value:<11} {state[stage]:<8} {what[stage][0]}"]
        lines += [f"{'':23}{detail}" for detail in what[stage][1:]]
    response, calls = config.policy.max_new_tokens, sizes.instructor_calls
    lines += [
        "",
        f"instructor  at most {calls:,} answers, {calls * config.instruct.max_tokens:,} tokens written",
        f"base model  at most {sizes.attempts:,} completions, {sizes.attempts * response:,} tokens"
        + (" (and the evaluation's)" if sizes.test_attempts is None else ""),
        "",
        "settings (* not the paper's)",
    ]
    paper = flatten(RunConfig())
    for key, value in flatten(config).items():
        differs = value != paper[key] and key not in ("instructor", "base_model", "profile", "seed")
        lines.append(f"{'*' if differs else ' '} {key} = {_shown(value)}{f'  (paper: {_shown(paper[key])})' * differs}")
    return "\n".join(lines)


def _stage_states(request: RunRequest) -> dict[Stage, str]:
    first_fresh = STAGES.index(request.fresh) if request.fresh else len(STAGES)
    last = STAGES.index(request.until) if request.until else len(STAGES)
    run = RunDirectory(request.path, request.definition, request.config)
    states = {}
    for index, stage in enumerate(STAGES):
        done = index < first_fresh and run.stage(stage).is_done()
        states[stage] = "done" if done else "left out" if index > last else "to do"
    return states


def _stage_lines(definition: TaskDefinition, config: RunConfig, sizes: Estimate) -> dict[Stage, list[str]]:
    votes = f", each with {sizes.votes} further votes" if sizes.votes else ", labels right by construction"
    if sizes.rewrites:
        adapting = [
            f"{sizes.greedy_attempts:,} greedy attempts of the base model",
            f"{sizes.rewrites:,} rewrites, harder or easier{votes}",
        ]
    else:
        adapting = ["switched off: adapt.enabled is false"]
    if definition.passages:
        libraries = f"{len(definition.passages)} librar{'y' if len(definition.passages) == 1 else 'ies'}"
        retrieving = [f"{libraries}, the best {config.retrieve.passages:,} passages", "1 instructor call for keywords"]
    else:
        retrieving = ["no libraries: samples are written from the definition alone"]
    rows = "rows not counted yet" if sizes.test_rows is None else f"{sizes.test_rows:,} rows"
    train = config.train
    return {
        Stage.RETRIEVE: retrieving,
        Stage.SYNTHESIZE: [
            f"{sizes.drafts:,} samples wanted, at most {sizes.most_drafts:,} drafts{votes}",
            f"{sizes.pattern_calls} instructor call for the demos' pattern"
            if sizes.pattern_calls
            else "no pattern call",
        ],
        Stage.ADAPT: adapting,
        Stage.SELECT: [
            f"{sizes.pool:,} samples x {config.select.attempts} attempts = {sizes.scoring_attempts:,}",
            f"{config.select.strategy}: {sizes.selected:,} samples to train on",
        ],
        Stage.TRAIN: [
            f"{sizes.steps:,} steps x {train.batch} prompts x {train.completions} completions = {sizes.rollouts:,}",
        ],
        Stage.EVALUATE: [f"{rows}, one greedy attempt each by base, warm-up and tuned model"],
    }


def _test_rows(definition: TaskDefinition, config: RunConfig) -> int | None:
    """Rows that will be evaluated, as far as a local file tells; a data set on the hub is not asked for."""
    limit = config.evaluate.limit
    if definition.test is None:
        return 0
    if definition.test.path is None or not definition.test.path.is_file():
        return limit
    with definition.test.path.open("rb") as file:
        rows = sum(1 for line in file if line.strip())
    return rows if limit is None else min(rows, limit)


def _checked_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ConfigError(f"--name {name}: a run's name is one folder's name", next_step="--runs-dir DIR --name NAME")
    return name


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)

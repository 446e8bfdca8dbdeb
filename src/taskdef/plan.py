"""What a run would do, worked out before anything is spent: its sizes, its calls, its settings beside the paper's.

Counts are upper bounds where chance decides (drops, early stops); they follow from the settings alone, so a plan
needs neither the instructor nor the base model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from taskdef.config import RunConfig, SynthesizeConfig, flatten, paper_values
from taskdef.instruct.writing import writing_calls
from taskdef.readable import setting_text
from taskdef.records import Stage, TaskDefinition
from taskdef.request import RunRequest
from taskdef.store import STAGES, RunDirectory


@dataclass(frozen=True)
class Estimate:
    """Sizes and calls of a run, upper bounds where chance decides."""

    keyword_calls: int
    pattern_calls: int
    drafts: int
    """Drafts where nothing is dropped."""
    most_drafts: int
    synthesize: SynthesizeConfig
    passages: int
    """Passages asked for; 0 without libraries."""
    votes: int
    """Answers asked for each draft; 0 where labels are right by construction, or votes are switched off."""
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
        written = sum(self.writing_calls.values()) + self.rewrites
        return self.keyword_calls + self.pattern_calls + written + (self.most_drafts + self.rewrites) * self.votes

    @property
    def writing_calls(self) -> dict[str, int]:
        """By purpose, what writing the drafts takes."""
        return writing_calls(self.synthesize, self.most_drafts, passages=self.passages) if self.most_drafts else {}

    @property
    def attempts(self) -> int:
        """Completions of the base model and its successors."""
        return self.greedy_attempts + self.scoring_attempts + self.rollouts + (self.test_attempts or 0)


def estimate(definition: TaskDefinition, config: RunConfig) -> Estimate:
    """Work out sizes and calls from definition and settings alone."""
    human = config.synthesize.human
    samples = config.synthesize.samples if human.file is None else human.rows or _lines(human.file)
    adapted = samples if config.adapt.enabled else 0
    pool = samples + adapted
    selected = pool if config.select.strategy == "all" else min(config.select.size, pool)
    steps = config.train.most_steps(selected)
    rows = _test_rows(definition, config)
    models = 2 if config.warm_up.mode == "never" else 3
    written = human.file is None
    by_construction = config.instructor.startswith("procedural:")
    return Estimate(
        keyword_calls=1 if written and definition.passages and config.retrieve.method != "none" else 0,
        pattern_calls=1 if written and definition.demos and _asks_for_pattern(config.synthesize) else 0,
        drafts=samples if written else 0,
        most_drafts=math.ceil(samples * config.synthesize.max_draft_factor) if written else 0,
        synthesize=config.synthesize,
        passages=config.retrieve.passages if definition.passages and config.retrieve.method != "none" else 0,
        votes=0 if by_construction else config.synthesize.votes,
        rewrites=adapted,
        pool=pool,
        selected=selected,
        steps=steps,
        test_rows=rows,
        greedy_attempts=samples if config.warm_up.mode == "never" else 2 * samples,
        scoring_attempts=pool * config.select.most_attempts,
        rollouts=config.train.most_rollouts(selected),
        test_attempts=None if rows is None else models * rows,
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
    paper = paper_values()
    for key, value in flatten(config).items():
        differs = value != paper[key] and key not in ("instructor", "base_model", "profile", "seed")
        beside = f"  (paper: {setting_text(paper[key])})" if differs else ""
        lines.append(f"{'*' if differs else ' '} {key} = {setting_text(value)}{beside}")
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
    if sizes.votes:
        votes = f", each with {sizes.votes} further votes"
    elif config.instructor.startswith("procedural:"):
        votes = ", labels right by construction"
    else:
        votes = ", labels not put to the vote"
    rewriting = (
        f"{sizes.rewrites:,} rewrites, harder or easier{votes}" if sizes.rewrites else "no rewrites: switched off"
    )
    if definition.passages and config.retrieve.method == "none":
        retrieving = ["retrieve.method=none: samples are written from the definition alone"]
    elif definition.passages:
        libraries = f"{len(definition.passages)} librar{'y' if len(definition.passages) == 1 else 'ies'}"
        which = {"random": "", "adversarial": "the least relevant "}.get(config.retrieve.method, "the best ")
        drawn = " by chance" if config.retrieve.method == "random" else ""
        passages = f"{which}{config.retrieve.passages:,} passages{drawn}"
        retrieving = [f"{libraries}, {passages}", "1 instructor call for keywords"]
    else:
        retrieving = ["no libraries: samples are written from the definition alone"]
    synthesizing = [
        f"{sizes.drafts:,} samples wanted, at most {sizes.most_drafts:,} drafts{votes}",
        f"{sizes.pattern_calls} instructor call for the demos' pattern"
        if sizes.pattern_calls
        else _writing_text(sizes),
    ]
    if config.synthesize.human.file is not None:
        rows_wanted = config.synthesize.human.rows
        retrieving = ["nothing: samples are human examples"]
        synthesizing = [f"{f'{rows_wanted:,}' if rows_wanted else 'all'} rows of {config.synthesize.human.file}"]
    rows = "rows not counted yet" if sizes.test_rows is None else f"{sizes.test_rows:,} rows"
    return {
        Stage.RETRIEVE: retrieving,
        Stage.SYNTHESIZE: synthesizing,
        Stage.ADAPT: [f"{sizes.greedy_attempts:,} greedy attempts", _warm_up_line(config), rewriting],
        Stage.SELECT: [
            _scoring_line(config, sizes),
            f"{config.select.strategy}: {sizes.selected:,} samples to train on",
        ],
        Stage.TRAIN: [_training_line(config, sizes)],
        Stage.EVALUATE: [f"{rows}, one greedy attempt each by base, warmed-up and tuned model"],
    }


def _asks_for_pattern(settings: SynthesizeConfig) -> bool:
    return settings.pattern and settings.method == "knowledge-guided"


def _writing_text(sizes: Estimate) -> str:
    """What goes into the drafts, where that is more than one call each."""
    if sizes.synthesize.method == "knowledge-guided":
        return "no pattern call"
    calls = ", ".join(f"{count:,} {purpose}" for purpose, count in sizes.writing_calls.items() if count)
    return f"{sizes.synthesize.method}: at most {calls} calls for the drafts"


def _scoring_line(config: RunConfig, sizes: Estimate) -> str:
    if config.select.rollouts == "adaptive":
        pool, most = f"{sizes.pool:,}", f"{sizes.scoring_attempts:,}"
        return f"{pool} samples x at most {config.select.attempts} attempts = at most {most}"
    return f"{sizes.pool:,} samples x {config.select.rollouts} attempts = {sizes.scoring_attempts:,}"


def _training_line(config: RunConfig, sizes: Estimate) -> str:
    train = config.train
    if train.by_rollouts:
        return f"{sizes.steps:,} steps x {train.batch} prompts x {train.completions} completions = {sizes.rollouts:,}"
    rollouts = f"; attempts of its own: at most {sizes.rollouts:,}" if sizes.rollouts else ""
    return f"{train.method}: at most {sizes.steps:,} steps{rollouts}"


def _warm_up_line(config: RunConfig) -> str:
    warm_up = config.warm_up
    if warm_up.mode == "never":
        return "no warm-up"
    condition = f" where under {warm_up.readable_below:.0%} of them can be read" if warm_up.mode == "auto" else ""
    return f"a warm-up of at most {warm_up.max_steps} steps{condition}"


def _test_rows(definition: TaskDefinition, config: RunConfig) -> int | None:
    """Rows that will be evaluated, as far as a local file tells; a data set on the hub is not asked for."""
    limit = config.evaluate.limit
    if definition.test is None:
        return 0
    if definition.test.path is None or not definition.test.path.is_file():
        return limit
    rows = _lines(definition.test.path)
    return rows if limit is None else min(rows, limit)


def _lines(path: Path) -> int:
    """Lines of a file that hold something; 0 where there is none."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())

"""What is retrieval worth? The method run with the best passages, any, the least relevant and none, side by side.

    python benchmarks/retrieval_methods.py [--no-train] [--seeds 0] [--samples 64] [--runs-dir runs/retrieval-methods]
    python benchmarks/retrieval_methods.py --small FOLDER [--seeds 0 1 2]

The sums example with its procedural instructor: its labels are right by construction, its passages decide which of five
generators writes a sample, and its library is about arithmetic in a third of its passages. So whether a sample is about
the task is known exactly, which no language model as an instructor would tell; and bad labels, which irrelevant
passages may bring about with one, cannot occur. The scripted instructor knows no passages, so it would show nothing.

All start from one model: the first run's, after its warm-up, or the one named. So what is solved, selected and learned
differs by the data alone.

Prints for each method: drafts; the share that was parsed, that was distinct, whose label was agreed on, whose sample
the model solved at its first attempt, and that was selected (each of the drafts that came so far); the share of samples
that are sums or differences at all, and of those selected; and, unless --no-train is given, the tuned model's held-out
accuracy with its Wilson 95% interval, a seed. The same goes to retrieval_methods.json in the runs' folder. After an
interruption, finished stages are kept.

With --small the model is one of 0.1 million weights, made in FOLDER by table4_small.py, that was trained on sums and
differences and adds some of them rightly, and nothing else: minutes on a CPU instead of hours.

    python benchmarks/retrieval_methods.py --task TASK --config FILE

does the same with a task and an instructor of your own: nothing here but the column "on task" is about sums.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from table4_small import prepare

from taskdef.config import RunConfig, build_config
from taskdef.definition.packs import resolve_loaded
from taskdef.evaluate.records import Evaluation
from taskdef.pipeline import run as run_method
from taskdef.pipeline import starting_model
from taskdef.records import Sample, Stage, TaskDefinition
from taskdef.report.fates import DraftFate, FateRow, run_fates, sum_up
from taskdef.report.gather import gather
from taskdef.show import print_table
from taskdef.store import RunDirectory
from taskdef.terminal import progress_on_stderr

EXAMPLE = Path(__file__).parent.parent / "examples" / "sums"
METHODS = ("bm25", "random", "adversarial", "none")
"""Also: dense and hybrid, with the extra `dense`."""
SMALL = {
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "policy.max_new_tokens": 8,
    "policy.max_prompt_tokens": 240,
    "synthesize.max_draft_factor": 5,
    "synthesize.near_duplicate_similarity": 1.0,
    "synthesize.test_overlap": 1.0,
    "select.temperature": 1.0,
    "train.learning_rate": 2e-4,
    "train.batch": 16,
    "train.completions": 8,
    "train.temperature": 1.0,
    "train.kl_coefficient": 0.0,
}
"""What suits a model of 0.1 million weights."""
ON_TASK = "chain_sum."
"""What the levels of a sample of the example's task begin with."""


def one_run(definition: TaskDefinition, config: RunConfig, path: Path, until: Stage) -> RunDirectory:
    """Run one method under one seed, or go on with it."""
    with progress_on_stderr() as progress:
        progress.line(f"--- {path.name}")
        return run_method(definition, config, path=path, progress=progress, until=until)


def on_task(samples: list[Sample]) -> float | None:
    """The share of samples that the example's own generator wrote; None where the instructor has no generators."""
    known = [any(name.startswith(ON_TASK) for name in sample.level) for sample in samples if sample.level]
    return sum(known) / len(known) if known else None


def measure(method: str, runs: list[RunDirectory]) -> dict[str, Any]:
    """The row of one method over all seeds."""
    fates: list[DraftFate] = []
    initial: list[Sample] = []
    selected: list[Sample] = []
    for run in runs:
        artifacts = gather(run)
        fates += run_fates(artifacts)
        initial += artifacts.initial
        selected += artifacts.selected
    evaluations = [
        Evaluation.model_validate(run.stage(Stage.EVALUATE).read_json("evaluation.json"))
        for run in runs
        if run.stage(Stage.EVALUATE).is_done()
    ]
    return {
        "method": method,
        "seeds": [run.config.seed for run in runs],
        **dataclasses.asdict(sum_up(method, fates)),
        "on_task": on_task(initial),
        "selected_on_task": on_task(selected),
        "tuned": [one.models["tuned"].strict.model_dump() for one in evaluations],
    }


def cells(row: dict[str, Any]) -> list[str]:
    """The row as it is printed."""
    names = [field.name for field in dataclasses.fields(FateRow) if field.name not in ("label", "drafts")]
    shares = [row[name] for name in (*names, "on_task", "selected_on_task")]
    tuned = ", ".join(f"{one['share']:.1%} [{one['low']:.1%}, {one['high']:.1%}]" for one in row["tuned"])
    return [
        row["method"],
        str(row["drafts"]),
        *("-" if share is None else f"{share:.0%}" for share in shares),
        tuned or "not trained",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--attempts", type=int, default=8, help="scored attempts on each sample")
    parser.add_argument("--passages", type=int, default=24)
    parser.add_argument("--steps", type=int, default=30, help="of training")
    parser.add_argument("--no-train", action="store_true", help="stop after the selection")
    parser.add_argument("--start", metavar="MODEL", help="the model that all start from; else the first warm-up's")
    parser.add_argument("--small", metavar="FOLDER", type=Path, help="a model of 0.1 million weights, made there")
    parser.add_argument("--task", default=str(EXAMPLE / "task.yaml"))
    parser.add_argument("--config", type=Path, default=EXAMPLE / "config.yaml")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/retrieval-methods"))
    arguments = parser.parse_args()
    definition = resolve_loaded(arguments.task, None).definition
    rows = []
    start: str | None = arguments.start
    if arguments.small is not None:
        prepare(arguments.small, steps=1500)
        start = str(arguments.small.absolute() / "base")
        # its own held-out rows: the model has not seen them, and may have seen the example's
        own = resolve_loaded(str(arguments.small / "task.yaml"), None).definition
        definition = own.model_copy(update={"passages": definition.passages})
    for method in arguments.methods:
        runs = []
        for seed in arguments.seeds:
            overrides = {
                "seed": seed,
                "retrieve.method": method,
                "retrieve.passages": arguments.passages,
                "synthesize.samples": arguments.samples,
                "select.size": arguments.samples,
                "select.rollouts": arguments.attempts,
                "train.max_steps": arguments.steps,
            }
            if start is not None:
                overrides |= {"base_model": json.dumps(start), "warm_up.mode": "never"}
            if arguments.small is not None:
                overrides |= SMALL
            config = build_config(files=[arguments.config], overrides=overrides)
            until = Stage.SELECT if arguments.no_train else Stage.EVALUATE
            path = arguments.runs_dir / f"{method}-{seed}"
            if start is None:
                warmed_up = starting_model(one_run(definition, config, path, Stage.ADAPT))
                start = str(warmed_up.absolute()) if isinstance(warmed_up, Path) else warmed_up
            runs.append(one_run(definition, config, path, until))
        rows.append(measure(method, runs))
    headings = "method drafts parsed distinct agreed solved selected on-task selected-on-task tuned"
    print_table(headings.split(), map(cells, rows))
    (arguments.runs_dir / "retrieval_methods.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

"""Which method learns most from the same samples? Every method from the same warmed-up start, side by side.

    python benchmarks/methods.py RUN [RUN ...] [--methods sft rft dpo stepwise ppo grpo] [--output FILE]
                                 [--set train.rft.attempts=32 ...] [--table]

Each RUN is a run that has its training set, each of another seed (``bash quickstart.sh``, ``bash quickstart.sh 1``).
For every method and every run the script makes the run beside it that ``taskdef train RUN --method METHOD`` makes,
which shares RUN's stages 1 to 4, trains it, and evaluates it on the held-out rows; RUN itself is the row of its own
method. What is finished is kept and not done again, and what was interrupted goes on, so the script can be stopped at
any time. ``--table`` trains nothing and prints what is there.

Prints a table: held-out accuracy of base model, warm-up and each method for each seed with Wilson's 95% interval; mean,
standard deviation over seeds, and the interval of the mean over seeds and rows; what is gained over base model and
warm-up, with intervals that pair the rows; rollouts made for the training, and those of scoring that it used again; the
time of stage 5. For each method that is not shown to be better than base model or warm-up it says why, as the
reports' diagnosis does. The same goes to the output file as JSON. That all rows of a seed learned from the same samples
and answered the same questions is checked, not assumed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from taskdef.branch import run_for_method
from taskdef.errors import TaskdefError
from taskdef.evaluate.seeds import Estimate, accuracy_over_seeds, deviation_over_seeds, difference_over_seeds
from taskdef.evaluate.statistics import wilson_interval
from taskdef.pipeline import run as run_method
from taskdef.records import Attempt, Stage, TestRow, Verdict
from taskdef.report.diagnosis import diagnose
from taskdef.report.gather import gather
from taskdef.show import print_table
from taskdef.store import RunDirectory, write_atomically
from taskdef.terminal import print_error, progress_on_stderr

METHODS = ("sft", "rft", "dpo", "stepwise", "ppo", "grpo")
UNTRAINED = ("base", "warm_up")
TRAINING_SET = "4-select/selected.jsonl"


def main() -> None:
    arguments = parse_arguments()
    origins = [RunDirectory.open(path) for path in arguments.runs]
    seeds = [run.config.seed for run in origins]
    if len(set(seeds)) < len(seeds):
        raise SystemExit(f"the runs have the seeds {seeds}: each must have another one")
    overrides = dict(pair.split("=", 1) for pair in arguments.set)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for method in arguments.methods:
        for origin in origins:
            run = method_run(origin, method, overrides, may_train=not arguments.table)
            if run is None:
                print(f"{method}, seed {origin.config.seed}: not trained", file=sys.stderr)
                continue
            refuse_other_data(origin, run)
            measured = measure(run)
            for name in UNTRAINED:
                if name in measured["right"]:
                    found.setdefault(name, {}).setdefault(run.config.seed, untrained(measured, name))
            found.setdefault(method, {})[run.config.seed] = {**measured, "right": measured["right"]["tuned"]}
    order = [name for name in (*UNTRAINED, *METHODS) if name in found]
    rows = [sum_up(name, found[name], found) for name in order]
    show(rows)
    write_atomically(arguments.output, json.dumps({"seeds": seeds, "set": overrides, "rows": rows}, indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="train.* settings of new runs")
    parser.add_argument("--table", action="store_true", help="print what is finished, train nothing")
    parser.add_argument("--output", type=Path, default=Path("methods.json"))
    return parser.parse_args()


def method_run(origin: RunDirectory, method: str, overrides: dict[str, str], *, may_train: bool) -> RunDirectory | None:
    """The evaluated run of one method on the origin's samples; None where it is not there and must not be made."""
    own = method == origin.config.train.method
    path = origin.path if own else origin.path.with_name(f"{origin.path.name}-{method}")
    if path.exists() and RunDirectory.open(path).stage(Stage.EVALUATE).is_done():
        return RunDirectory.open(path)
    if not may_train:
        return None
    with progress_on_stderr() as progress:
        progress.line(f"--- {path.name}")
        made = origin if own else run_for_method(origin, {**overrides, "train.method": method})
        return run_method(made.definition, made.config, path=made.path, progress=progress)


def refuse_other_data(origin: RunDirectory, run: RunDirectory) -> None:
    """Stop where a run learned from other samples than the origin's."""
    ours = origin.stage(Stage.SELECT).manifest().outputs[Path(TRAINING_SET).name]
    theirs = run.stage(Stage.TRAIN).manifest().inputs[TRAINING_SET]
    if ours != theirs:
        raise SystemExit(f"{run.path}: learned from other samples than {origin.path} has; remove it to train again")


def measure(run: RunDirectory) -> dict[str, Any]:
    """One evaluated run: for each model which held-out rows it has right, and what the training took."""
    evaluated, trained = run.stage(Stage.EVALUATE), run.stage(Stage.TRAIN).manifest()
    questions = evaluated.read_records("test_rows.jsonl", TestRow)
    right = {}
    for name in evaluated.read_json("evaluation.json")["models"]:
        attempts = evaluated.read_records(f"attempts-{name}.jsonl", Attempt)
        if any(attempt.verdict is Verdict.VERIFIER_ERROR for attempt in attempts):
            raise SystemExit(f"{run.path}: the verifier failed on held-out answers of {name}; rows cannot be paired")
        right[name] = [int(attempt.verdict is Verdict.CORRECT) for attempt in attempts]
    problems = [one.sentence for one in diagnose(gather(run)) if one.kind == "problem"]
    return {
        "questions": [row.input for row in questions],
        "right": right,
        "rollouts": trained.summary.get("rollouts", 0),
        "reused": trained.summary.get("attempts_reused", 0),
        "steps": trained.summary["steps"],
        "seconds": trained.seconds,
        "problems": problems,
    }


def untrained(measured: dict[str, Any], name: str) -> dict[str, Any]:
    return {"questions": measured["questions"], "right": measured["right"][name]}


def sum_up(
    name: str, by_seed: dict[int, dict[str, Any]], found: dict[str, dict[int, dict[str, Any]]]
) -> dict[str, Any]:
    """One row of the table, over the seeds that there are."""
    seeds = sorted(by_seed)
    right = [by_seed[seed]["right"] for seed in seeds]
    if len({json.dumps(by_seed[seed]["questions"]) for seed in seeds}) > 1:
        raise SystemExit(f"{name}: the runs were evaluated on different held-out rows")
    mean = accuracy_over_seeds(right)
    row: dict[str, Any] = {
        "name": name,
        "seeds": {
            seed: {"share": sum(of_seed) / len(of_seed), "interval": wilson_interval(sum(of_seed), len(of_seed))}
            for seed, of_seed in zip(seeds, right, strict=True)
        },
        "mean": mean.mean,
        "interval": (mean.low, mean.high),
        "deviation": deviation_over_seeds(right),
        "gains": {},
    }
    if name in UNTRAINED:
        return row
    for other in UNTRAINED:
        if other not in found:
            continue
        paired = [found[other][seed] for seed in seeds]
        if any(them["questions"] != by_seed[seed]["questions"] for them, seed in zip(paired, seeds, strict=True)):
            raise SystemExit(f"{name} and {other} were evaluated on different held-out rows")
        gain: Estimate = difference_over_seeds(right, [them["right"] for them in paired])
        row["gains"][other] = {"mean": gain.mean, "interval": (gain.low, gain.high), "p": gain.p}
    for key in ("rollouts", "reused", "steps", "seconds"):
        row[key] = {seed: by_seed[seed][key] for seed in seeds}
    if not all(gain["interval"][0] > 0 for gain in row["gains"].values()):
        row["why"] = {seed: by_seed[seed]["problems"] for seed in seeds}
    return row


def show(rows: list[dict[str, Any]]) -> None:
    seeds = sorted({seed for row in rows for seed in row["seeds"]})
    others = [other for other in UNTRAINED if any(other in row["gains"] for row in rows)]
    print_table(
        ["method", *(f"seed {seed}" for seed in seeds), "mean ± deviation", "95%, seeds and rows"]
        + [f"over {other.replace('_', '-')}" for other in others]
        + ["rollouts", "used again", "steps", "minutes"],
        [
            [
                row["name"].replace("_", "-"),
                *(share_of(row["seeds"].get(seed)) for seed in seeds),
                f"{row['mean']:.1%}" + ("" if row["deviation"] is None else f" ± {row['deviation']:.1%}"),
                span(row["interval"]),
                *(points_of(row["gains"].get(other)) for other in others),
                *(mean_of(row.get(key), digits=0) for key in ("rollouts", "reused", "steps")),
                mean_of(row.get("seconds"), digits=1, scale=1 / 60),
            ]
            for row in rows
        ],
    )
    for row in rows:
        for seed, problems in row.get("why", {}).items():
            print(f"\n{row['name']}, seed {seed}, why not better:")
            for sentence in problems or ["no failure pattern that the diagnosis knows: the difference may be chance"]:
                print(f"  {sentence}")


def share_of(found: dict[str, Any] | None) -> str:
    return "-" if found is None else f"{found['share']:.1%} {span(found['interval'])}"


def span(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:.1%}, {interval[1]:.1%}]"


def points_of(gain: dict[str, Any] | None) -> str:
    if gain is None:
        return "-"
    low, high = gain["interval"]
    return f"{100 * gain['mean']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def mean_of(by_seed: dict[int, float] | None, *, digits: int, scale: float = 1.0) -> str:
    return "-" if by_seed is None else f"{scale * sum(by_seed.values()) / len(by_seed):,.{digits}f}"


if __name__ == "__main__":
    try:
        main()
    except TaskdefError as error:
        sys.exit(print_error(error))

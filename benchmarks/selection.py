"""Does choosing high-potential samples help? Selection strategies on known truth, side by side.

    python benchmarks/selection.py [--steps 15] [--size 64] [--seeds 0 1 2] [--runs-dir runs]

For each seed the sums example is retrieved, synthesized, adapted and scored once, with the same number of attempts on
every sample (an adaptive scoring serves one choice only); each strategy then trains from the same starting model on its
own choice, for the same number of steps with the same seed, and answers the same held-out rows. The procedural
instructor's labels are right by construction, so nothing but the choice differs. The pool is several times the choice:
otherwise every strategy would choose much the same.

Prints held-out accuracy with Wilson 95% intervals a run, and the mean over seeds a strategy; writes the same to
selection.json. After an interruption, finished trainings and evaluations are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from taskdef import RunConfig, load_definition
from taskdef.config import build_config, parse_config
from taskdef.definition.testset import load_test_rows
from taskdef.evaluate.records import ModelResult
from taskdef.evaluate.stage import evaluate_models
from taskdef.pipeline import run as run_method
from taskdef.pipeline import run_stage
from taskdef.policy.load import load_policy
from taskdef.records import PassRate, Sample, Stage
from taskdef.select.stage import Selection
from taskdef.select.strategies import choose
from taskdef.store import RunDirectory, write_atomically
from taskdef.verify.isolated import Verifier

EXAMPLE = Path(__file__).parent.parent / "examples" / "sums"
STRATEGIES = ("high-potential", "random", "all")
SHARED = (Stage.RETRIEVE, Stage.SYNTHESIZE, Stage.ADAPT)


def scored_run(seed: int, runs: Path) -> RunDirectory:
    """The part that all strategies share: everything up to the pass rates."""
    config = build_config(files=[EXAMPLE / "config.yaml"], overrides={"seed": seed, "select.rollouts": 16})
    definition = load_definition(EXAMPLE / "task.yaml")
    return run_method(definition, config, path=runs / f"scored-{seed}", until=Stage.SELECT)


def trained_run(scored: RunDirectory, strategy: str, steps: int, size: int, runs: Path) -> RunDirectory:
    """Choose by ``strategy`` from the shared pass rates, and train."""
    values = scored.config.model_dump()
    values["select"] |= {"strategy": strategy, "size": size}
    values["train"] |= {"max_steps": steps}
    config = parse_config(values)
    run = RunDirectory.create(runs / f"selection-{strategy}-{config.seed}", scored.definition, config)
    for stage in SHARED:
        if not run.stage(stage).is_done():
            shutil.copytree(scored.stage(stage).path, run.stage(stage).path, dirs_exist_ok=True)
    if not run.stage(Stage.SELECT).is_done():
        write_choice(scored, run, config)
    if not run.stage(Stage.TRAIN).is_done():
        run_stage(run, Stage.TRAIN)
    return run


def write_choice(scored: RunDirectory, run: RunDirectory, config: RunConfig) -> None:
    """The select stage, from pass rates that are already there."""
    samples = scored.stage(Stage.ADAPT).read_records("samples.jsonl", Sample)
    rates = scored.stage(Stage.SELECT).read_records("pass_rates.jsonl", PassRate)
    select = config.select
    chosen = choose(samples, rates, strategy=select.strategy, size=select.size, seed=config.seed)
    directory = run.stage(Stage.SELECT)
    directory.open()
    directory.write_records("pass_rates.jsonl", rates)
    directory.write_records("selected.jsonl", chosen)
    summary = Selection(rates=tuple(rates), selected=tuple(chosen)).summary()
    directory.finish(started=0.0, artifacts=["pass_rates.jsonl", "selected.jsonl"], summary=summary)


def held_out(run: RunDirectory, model: Path) -> ModelResult:
    """One greedy attempt of a model on every held-out row."""
    with Verifier(run.definition.answer) as verifier:
        rows = load_test_rows(run.definition, verifier)
        models = {"tuned": lambda: load_policy(model, run.definition, run.config.policy)}
        return evaluate_models(run.definition, rows, models, verifier=verifier, seed=run.config.seed).models["tuned"]


def measure(scored: RunDirectory, strategy: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train by one strategy under one seed; gives the row of the table, and prints it."""
    run = trained_run(scored, strategy, arguments.steps, arguments.size, arguments.runs_dir)
    kept = run.path / "held_out.json"
    if not kept.exists():
        write_atomically(kept, held_out(run, run.model_path).model_dump_json())
    accuracy = ModelResult.model_validate_json(kept.read_bytes()).strict
    selection = run.stage(Stage.SELECT).manifest().summary
    signal = run.stage(Stage.TRAIN).manifest().summary["signal_share"]
    print(
        f"{strategy:15} seed {run.config.seed}  {selection['kept']:4} samples of {selection['scored']}, "
        f"mean pass rate {selection['mean_pass_rate_selected']:.3f}, groups with a signal {signal:.0%}: "
        f"{accuracy.share:.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}]",
        flush=True,
    )
    return {
        "strategy": strategy,
        "seed": run.config.seed,
        "steps": arguments.steps,
        "samples": selection["kept"],
        "mean_pass_rate": selection["mean_pass_rate_selected"],
        "signal_share": signal,
        "accuracy": accuracy.model_dump(),
    }


def main() -> None:
    """Run every strategy under every seed and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        scored = scored_run(seed, arguments.runs_dir)
        rows += [measure(scored, strategy, arguments) for strategy in STRATEGIES]
    for strategy in STRATEGIES:
        shares = [row["accuracy"]["share"] for row in rows if row["strategy"] == strategy]
        spread = f" ± {statistics.stdev(shares):.1%}" if len(shares) > 1 else ""
        print(f"{strategy:15} mean of {len(shares)} seeds {statistics.fmean(shares):.1%}{spread}")
    (arguments.runs_dir / "selection.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

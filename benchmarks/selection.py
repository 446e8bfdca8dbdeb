"""Does choosing high-potential samples help? Selection strategies on known truth, side by side.

    python benchmarks/selection.py [--steps 40] [--seeds 0 1 2] [--runs-dir runs/selection]

For each seed the sums example is retrieved, synthesized, adapted and scored once; each strategy then trains from the
same starting model on its own choice, for the same number of steps with the same seed, and is evaluated on the same
held-out rows. The procedural instructor's labels are right by construction, so nothing but the choice differs. The
pool is larger than the choice: otherwise every strategy would choose the same.

Prints held-out accuracy with Wilson 95% intervals a run, and the mean over seeds a strategy; writes the same as JSON.
Going on after an interruption, finished runs are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path

from taskdef import RunConfig, load_definition
from taskdef.config import build_config, parse_config
from taskdef.pipeline import run as run_method
from taskdef.pipeline import run_stage
from taskdef.records import PassRate, Sample, Stage
from taskdef.select.stage import Selection
from taskdef.select.strategies import choose
from taskdef.store import RunDirectory

EXAMPLE = Path(__file__).parent.parent / "examples" / "sums"
STRATEGIES = ("high-potential", "random", "all")


def scored_run(seed: int, steps: int, size: int, runs: Path) -> RunDirectory:
    """The part that all strategies share: everything up to the pass rates."""
    config = build_config(
        files=[EXAMPLE / "config.yaml"],
        overrides={"seed": seed, "train.max_steps": steps, "select.size": size},
    )
    definition = load_definition(EXAMPLE / "task.yaml")
    return run_method(definition, config, path=runs / f"scored-{seed}", until=Stage.SELECT)


def trained_run(scored: RunDirectory, strategy: str, runs: Path) -> RunDirectory:
    """Choose by ``strategy`` from the shared pass rates, train, evaluate."""
    seed = scored.config.seed
    path = runs / f"{strategy}-{seed}"
    config = parse_config(
        scored.config.model_dump() | {"select": scored.config.select.model_dump() | {"strategy": strategy}}
    )
    run = RunDirectory.create(path, scored.definition, config)
    for stage in (Stage.RETRIEVE, Stage.SYNTHESIZE, Stage.ADAPT):
        if not run.stage(stage).is_done():
            shutil.copytree(scored.stage(stage).path, run.stage(stage).path, dirs_exist_ok=True)
    if not run.stage(Stage.SELECT).is_done():
        write_choice(scored, run, config)
    for stage in (Stage.TRAIN, Stage.EVALUATE):
        if not run.stage(stage).is_done():
            run_stage(run, stage)
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


def main() -> None:
    """Run every strategy under every seed and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/selection"))
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        scored = scored_run(seed, arguments.steps, arguments.size, arguments.runs_dir)
        for strategy in STRATEGIES:
            run = trained_run(scored, strategy, arguments.runs_dir)
            models = run.stage(Stage.EVALUATE).read_json("evaluation.json")["models"]
            selection = run.stage(Stage.SELECT).manifest().summary
            training = run.stage(Stage.TRAIN).manifest().summary
            row = {
                "strategy": strategy,
                "seed": seed,
                "samples": selection["kept"],
                "mean_pass_rate": selection["mean_pass_rate_selected"],
                "signal_share": training["signal_share"],
                "start": models["warm_up"]["strict"] if "warm_up" in models else models["base"]["strict"],
                "tuned": models["tuned"]["strict"],
            }
            rows.append(row)
            tuned, start = row["tuned"], row["start"]
            print(
                f"{strategy:15} seed {seed}  {row['samples']:4} samples, mean pass rate {row['mean_pass_rate']:.3f}, "
                f"groups with signal {row['signal_share']:.0%}: {start['share']:.1%} -> {tuned['share']:.1%} "
                f"[{tuned['low']:.1%}, {tuned['high']:.1%}]",
                flush=True,
            )
    for strategy in STRATEGIES:
        shares = [row["tuned"]["share"] for row in rows if row["strategy"] == strategy]
        spread = f" ± {statistics.stdev(shares):.1%}" if len(shares) > 1 else ""
        print(f"{strategy:15} mean of {len(shares)} seeds {statistics.fmean(shares):.1%}{spread}")
    (arguments.runs_dir / "selection.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

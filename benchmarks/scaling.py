"""How does the test error fall with the number of synthetic samples, method by method? (arXiv 2406.14532, figures on
data scaling.)

    python benchmarks/scaling.py [--seeds 0 1 2] [--sizes 16 32 64 128 256 512] [--steps 200] [--output FOLDER]

Samples come from the procedural instructor: words of 3 to 10 letters to be spelled backward, a letter a line, answers
right by construction. The base model is a transformer small enough that a point takes seconds: trained from scratch
here on random letters, up to ``--base-letters`` of them, and stopped early, so that it knows the task and fails at some
words. From it each method learns from the first n of the same words, for the same number of optimizer steps whatever n
is, so that the samples alone differ:

    sft       their solutions
    rft       the model's own correct solutions alone: a solution here is the answer, so own ones that differ from
              the given ones do not exist, and with the given ones beside them it would be sft
    stepwise  per-step DPO: a line is a step, so a pit is a letter
    grpo      rewards of the model's own completions

``--methods`` can name dpo and ppo too.

Prints the test error of every point with Wilson's 95% interval over all seeds' answers; the slope of a straight line
through log error over log n, by method; and the data multiplier read horizontally: for SFT's fitted error at the
middle size, the samples that SFT needs over those that the method needs. Intervals: 95% of bootstrap resamples of seeds
and of held-out rows. Writes scaling.jsonl (a row a point; a later start goes on from there), scaling.json and
scaling.svg.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import re
import shutil
import string
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_transformer import fresh_transformer, train_from_scratch, word_tokenizer

from taskdef.config import PolicyConfig, build_config
from taskdef.errors import RunError
from taskdef.evaluate.statistics import wilson_interval
from taskdef.instruct.procedural import ProceduralInstructor
from taskdef.policy.load import load_policy, save_checkpoint
from taskdef.policy.prompting import PromptEncoder
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Sample, Stage, TaskDefinition
from taskdef.store import RunDirectory
from taskdef.train.stage import train_policy
from taskdef.verify.isolated import Verifier

TASK = TaskDefinition(
    name="backward",
    description="Spell a word backward.",
    output_format="=",  # the prompt's last sign; anything else would only make prompts longer
    answer=AnswerSpec(read=AnswerReading.EXACT, compare=AnswerComparison.TEXT),
)
INSTRUCTOR = "spell_backward(min_word_len=3,max_word_len=10)"
QUESTION = "Spell this word backward (example: sun -> nus): "
METHODS = {"sft": "SFT", "rft": "RFT", "dpo": "DPO", "stepwise": "per-step DPO", "ppo": "PPO", "grpo": "GRPO"}
"""With their names in the plot."""
POLICY = {"device": "cpu", "dtype": "float32", "max_new_tokens": 24, "prompt": "plain"}
RESAMPLES = 2000
COLOURS = ("#0b6e99", "#b5651d", "#4c8b3f", "#7a4c9e", "#888888", "#000000")


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    rows = read_rows(options)
    with Verifier(TASK.answer) as verifier:
        for seed in options.seeds:
            for row in missing_points(options, seed, rows, verifier):
                rows.append(row)
                with (options.output / "scaling.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(describe(row), flush=True)
    found = sum_up(rows, options)
    show(found)
    (options.output / "scaling.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, options.output / "scaling.svg")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512])
    parser.add_argument("--methods", nargs="+", default=["sft", "rft", "stepwise", "grpo"], choices=METHODS)
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps of every method")
    parser.add_argument("--batch", type=int, default=32, help="solutions, or pairs, of a step; of GRPO completions")
    parser.add_argument("--sft-rate", type=float, default=3e-4)
    parser.add_argument("--dpo-rate", type=float, default=2e-5)
    parser.add_argument("--grpo-rate", type=float, default=2e-4)
    parser.add_argument(
        "--base-letters", type=int, default=10, help="of the longest string of the base model's training"
    )
    parser.add_argument("--base-steps", type=int, default=280)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/scaling"))
    return parser.parse_args()


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What a point depends on beside seed, size and method."""
    left = ("seeds", "sizes", "methods", "threads", "output")
    return {name: value for name, value in vars(options).items() if name not in left}


def read_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    path = options.output / "scaling.jsonl"
    rows: list[dict[str, Any]] = []
    if path.exists():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if any(row["options"] != settings(options) for row in rows):
        raise SystemExit(f"{path}: holds points of other options; give another --output, or remove it")
    return rows


def missing_points(options: argparse.Namespace, seed: int, rows: list[dict[str, Any]], verifier: Verifier) -> Any:
    """Yields the rows of one seed that are not there yet, that of the base model (size 0) first."""
    there = {(row["seed"], row["method"], row["size"]) for row in rows}
    wanted = [("base", 0), *((method, size) for size in sorted(options.sizes) for method in options.methods)]
    left = [(method, size) for method, size in wanted if (seed, method, size) not in there]
    if not left:
        return
    samples, held_out = make_samples(options, seed)
    folder = options.output / f"seed-{seed}"
    base = folder / "base"
    if not base.exists():
        train_base(options, seed, {sample.input for sample in (*samples, *held_out)}, base)
    for method, size in left:
        row = {"seed": seed, "method": method, "size": size, "options": settings(options)}
        if method == "base":
            policy = load_policy(base, TASK, PolicyConfig.model_validate(POLICY))
            yield row | {"right": answers(policy, held_out, verifier)}
        else:
            yield row | point(options, seed, method, samples[:size], held_out, base, folder, verifier)


def make_samples(options: argparse.Namespace, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Samples to learn from, and those held out, which are the same for every seed."""
    found: dict[str, Sample] = {}

    async def fill() -> None:
        instructor = ProceduralInstructor(INSTRUCTOR, seed=0)
        index = 0
        while len(found) < options.held_out + max(options.sizes):
            made = await instructor.generate(TASK, passage=None, pattern="", demos=(), index=index, temperature=0.0)
            letters = "\n".join(made.solution)
            sample = Sample(id=f"s{index}", input=made.input, solution=letters, answer=letters)
            found.setdefault(made.input, sample)
            index += 1

    asyncio.run(fill())
    samples = list(found.values())
    held_out, rest = samples[: options.held_out], samples[options.held_out :]
    return random.Random(seed).sample(rest, len(rest)), held_out


def train_base(options: argparse.Namespace, seed: int, taken: set[str], folder: Path) -> None:
    """A transformer from scratch that spells random letters backward; none of the words is among them."""
    letters = string.ascii_letters + string.digits
    tokenizer = word_tokenizer([QUESTION, "\n", "=", *letters], rf"{re.escape(QUESTION)}|\n|.")
    encode = PromptEncoder(TASK, tokenizer, "plain")
    model = fresh_transformer(tokenizer, width=options.width, layers=options.layers, seed=seed)
    draw = random.Random(seed)
    texts = {"".join(draw.choices(letters, k=draw.randint(1, options.base_letters))) for _ in range(5_000)}
    train_from_scratch(
        model,
        [
            (encode.prompt_ids(QUESTION + text), encode.completion_ids("\n".join(text[::-1])))
            for text in sorted(texts)
            if QUESTION + text not in taken
        ],
        steps=options.base_steps,
        batch=64,
        learning_rate=2e-3,
        seed=seed,
        after_step=lambda step: None,
    )
    save_checkpoint(model, tokenizer, folder)


def point(
    options: argparse.Namespace,
    seed: int,
    method: str,
    samples: list[Sample],
    held_out: list[Sample],
    base: Path,
    folder: Path,
    verifier: Verifier,
) -> dict[str, Any]:
    """Train by one method on some samples, and answer the held-out rows."""
    overrides = {
        "seed": seed,
        "train.method": method,
        "train.sft.batch": options.batch,
        "train.sft.max_steps": options.steps,
        "train.sft.learning_rate": options.sft_rate,
        "train.rft.attempts": 16,
        "train.rft.with_verified": False,
        "train.dpo.batch": options.batch,
        "train.dpo.max_steps": options.steps,
        "train.dpo.learning_rate": options.dpo_rate,
        "train.stepwise.rollouts": 8,
        "train.stepwise.temperature": 1.0,
        "train.stepwise.wrong_responses": 2,
        "train.stepwise.steps": "lines",
        "train.completions": 8,
        "train.batch": max(1, options.batch // 8),
        "train.max_steps": options.steps,
        "train.learning_rate": options.grpo_rate,
        "train.temperature": 1.0,
        "train.micro_batch": options.batch,
        "train.save_every": options.steps,
        **{f"policy.{key}": value for key, value in POLICY.items()},
    }
    path = folder / f"{method}-{len(samples)}"
    shutil.rmtree(path, ignore_errors=True)  # half of a training of seconds
    run = RunDirectory.create(path, TASK, build_config(overrides=overrides))
    directory = run.stage(Stage.TRAIN)
    directory.open()
    started = time.perf_counter()
    try:
        training = train_policy(
            TASK, samples, run.config, start=base, model_path=run.model_path, verifier=verifier, directory=directory
        )
    except RunError as error:  # nothing to learn from: the model stays what it was
        policy = load_policy(base, TASK, run.config.policy)
        return {"right": answers(policy, held_out, verifier), "not_trained": error.message}
    seconds = time.perf_counter() - started
    right = answers(load_policy(run.model_path, TASK, run.config.policy), held_out, verifier)
    shutil.rmtree(path)
    return {"right": right, "seconds": seconds, "rollouts": training.counts.get("rollouts", 0)}


def answers(policy: TransformersPolicy, samples: list[Sample], verifier: Verifier) -> str:
    """A sign a held-out row: 1 where the greedy answer is right."""
    groups = policy.complete([sample.input for sample in samples], count=1, temperature=0.0, seed=0)
    judged = verifier.judge(
        [(group[0].text, sample.answer, group[0].truncated) for group, sample in zip(groups, samples, strict=True)]
    )
    return "".join("1" if judgement.verdict == "correct" else "0" for judgement in judged)


def describe(row: dict[str, Any]) -> str:
    more = ", ".join(f"{key} {row[key]}" for key in ("rollouts", "not_trained") if key in row)
    error = row["right"].count("0") / len(row["right"])
    return (
        f"seed {row['seed']}  {row['method']:<8} {row['size']:4} samples: test error {error:6.1%}  "
        f"{row.get('seconds', 0.0):5.0f} s  {more}"
    )


def sum_up(rows: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Errors, slopes and multipliers with their intervals."""
    sizes, seeds = sorted(options.sizes), list(options.seeds)
    wrong = {
        method: np.array([[wrong_rows(rows, seed, method, size) for size in sizes] for seed in seeds])
        for method in options.methods
    }
    """By method: seeds x sizes x held-out rows."""
    base = np.array([wrong_rows(rows, seed, "base", 0) for seed in seeds])
    generator = np.random.default_rng(0)
    drawn = [
        (generator.integers(0, len(seeds), len(seeds)), generator.integers(0, base.shape[1], base.shape[1]))
        for _ in range(RESAMPLES)
    ]
    fits = {method: fit(errors(table), sizes) for method, table in wrong.items()}
    resampled = {
        method: [fit(errors(table[of_seeds][:, :, of_rows]), sizes) for of_seeds, of_rows in drawn]
        for method, table in wrong.items()
    }
    middle = math.exp(sum(map(math.log, sizes)) / len(sizes))
    found: dict[str, Any] = {"options": settings(options), "seeds": seeds, "sizes": sizes, "middle": middle}
    found["base"] = {"error": float(base.mean()), "interval": wilson_interval(int(base.sum()), base.size)}
    for method, table in wrong.items():
        counts = table.sum(axis=(0, 2))
        of_size = table.shape[0] * table.shape[2]
        found[method] = {
            "error": [float(count / of_size) for count in counts],
            "interval": [wilson_interval(int(count), of_size) for count in counts],
            "by_seed": table.mean(axis=2).tolist(),
            "fit": fits[method],
            "slope_interval": quantiles([slope for _, slope in resampled[method]]),
            "rollouts": [total(rows, method, size, "rollouts", seeds) for size in sizes],
            "seconds": [total(rows, method, size, "seconds", seeds) for size in sizes],
        }
        if "sft" in wrong and method != "sft":
            found[method]["multiplier"] = multiplier(fits["sft"], fits[method], middle)
            found[method]["multiplier_interval"] = quantiles(
                [multiplier(a, b, middle) for a, b in zip(resampled["sft"], resampled[method], strict=True)]
            )
    return found


def wrong_rows(rows: list[dict[str, Any]], seed: int, method: str, size: int) -> list[int]:
    row = next(row for row in rows if (row["seed"], row["method"], row["size"]) == (seed, method, size))
    return [int(sign == "0") for sign in row["right"]]


def total(rows: list[dict[str, Any]], method: str, size: int, key: str, seeds: list[int]) -> float:
    """The mean over seeds of what a point took."""
    found = [row.get(key, 0) for row in rows if (row["method"], row["size"]) == (method, size) and row["seed"] in seeds]
    return sum(found) / len(found)


def errors(table: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Test error at each size; half a row in place of none, which has no logarithm."""
    return np.maximum(table.mean(axis=(0, 2)), 0.5 / (table.shape[0] * table.shape[2]))


def fit(error: np.ndarray[Any, Any], sizes: list[int]) -> tuple[float, float]:
    """Offset and slope of log error = offset + slope log n, by least squares."""
    slope, offset = np.polyfit(np.log(sizes), np.log(error), 1)
    return float(offset), float(slope)


def multiplier(sft: tuple[float, float], other: tuple[float, float], size: float) -> float:
    """Samples that SFT needs over those that the other method needs, for SFT's fitted error at ``size``.

    Infinite where the other method's line does not fall and lies below that error, 0 where it does not and lies above.
    """
    wanted = sft[0] + sft[1] * math.log(size)
    offset, slope = other
    if slope >= 0:
        return math.inf if offset + slope * math.log(size) < wanted else 0.0
    needed = (wanted - offset) / slope
    return math.exp(min(700.0, math.log(size) - needed))


def quantiles(values: list[float]) -> tuple[float, float]:
    """The middle 95%."""
    ordered = sorted(values)
    return ordered[round(0.025 * (len(ordered) - 1))], ordered[round(0.975 * (len(ordered) - 1))]


def show(found: dict[str, Any]) -> None:
    low, high = found["base"]["interval"]
    print(f"\nbase model: test error {found['base']['error']:.1%} [{low:.1%}, {high:.1%}]")
    for method in (method for method in METHODS if method in found):
        of = found[method]
        for place, size in enumerate(found["sizes"]):
            low, high = of["interval"][place]
            by_seed = " ".join(f"{seed[place]:.1%}" for seed in of["by_seed"])
            print(
                f"{method:<8} {size:4} samples: {of['error'][place]:6.1%} [{low:.1%}, {high:.1%}]  seeds {by_seed}  "
                f"{of['rollouts'][place]:7.0f} rollouts  {of['seconds'][place]:4.0f} s"
            )
    for method in (method for method in METHODS if method in found):
        of = found[method]
        low, high = of["slope_interval"]
        print(f"{method:<8} slope {of['fit'][1]:+.3f} [{low:+.3f}, {high:+.3f}]", end="")
        if "multiplier" in of:
            low, high = of["multiplier_interval"]
            print(
                f"  multiplier {of['multiplier']:.2g} [{low:.2g}, {high:.2g}] at {found['middle']:.0f} samples", end=""
            )
        print()


def draw(found: dict[str, Any], path: Path) -> None:
    """Error over samples, both in logarithms, a line a method, and its fitted line thin."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "scaling", "font.size": 11}
    from matplotlib import pyplot, ticker

    figure, panel = pyplot.subplots(figsize=(6.4, 4.4))
    sizes = np.array(found["sizes"], dtype=float)
    named = [method for method in METHODS if method in found]
    for number, (method, colour) in enumerate(zip(named, COLOURS, strict=False)):
        of = found[method]
        error = np.array(of["error"])
        beside = sizes * 1.03 ** (number - 1.5)  # so that intervals do not hide each other
        spread = np.abs(np.array(of["interval"]).T - error)
        panel.errorbar(
            beside, error, yerr=spread, fmt="o", color=colour, markersize=4, capsize=2, label=METHODS[method]
        )
        offset, slope = of["fit"]
        panel.plot(sizes, np.exp(offset + slope * np.log(sizes)), color=colour, linewidth=1.3)
    panel.axhline(found["base"]["error"], color="#888", linestyle="--", linewidth=1, label="base model")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_major_formatter(ticker.PercentFormatter(1, decimals=0))
    panel.yaxis.set_minor_formatter(ticker.PercentFormatter(1, decimals=0))
    panel.set_xticks(sizes)
    panel.set_xlabel("synthetic samples")
    panel.set_ylabel("test error")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()

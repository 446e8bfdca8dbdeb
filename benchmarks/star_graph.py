"""Does per-step DPO find the one step that matters, and learn from it? The star graph of arXiv 2406.14532.

    python benchmarks/star_graph.py [--seeds 0 1 2] [--sft-until 0.55] [--graphs 20000] [--few 500] [--output FOLDER]

A graph has ``degree`` arms of ``arm`` nodes around a centre. Given its edges in random order, the centre and the goal
(the end of one arm), the model writes the path from the centre to the goal, a node a line. A small transformer trained
from scratch here soon learns to follow an arm, but guesses which one: chance is 1 / degree. The pit of a wrong response
must then be the first node after the centre.

Two models are made by SFT. The under-trained one learns from ``--graphs`` graphs, of which it sees each one to three
times, until it names the right first node in ``--sft-until`` of the graphs that the other methods will learn from:
looking ahead comes suddenly, by seed after 400 to 900 steps, and before it begins no method has anything to go by. The
over-trained one learns from ``--few`` graphs, again and again, for ``--sft-steps``. From each, further steps by

    sft              SFT goes on: the control for more training
    dpo              naive: correct responses beside wrong ones
    stepwise         per-step DPO, a correct response beside the prefix through the pit
    stepwise-step    per-step DPO, a better step beside the pit's, after the same prefix

the last three on the same problems, which are other graphs than SFT's; all are judged on held-out graphs.

Prints accuracy (greedy, exact path) by seed and on average, accuracy of the first node after the centre, where the pits
are, and what it took. Writes star_graph.jsonl (a row a model; a later start goes on from there), star_graph.json and
star_graph.svg into the output folder. Whatever it shows.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tiny_transformer import fresh_transformer, train_from_scratch, word_tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from taskdef.config import PolicyConfig, build_config
from taskdef.errors import RunError
from taskdef.policy.load import load_policy, save_checkpoint
from taskdef.policy.prompting import PromptEncoder
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Sample, Stage, TaskDefinition
from taskdef.store import RunDirectory
from taskdef.train.q_values import StepValues
from taskdef.train.stage import train_policy
from taskdef.verify.isolated import Verifier

TASK = TaskDefinition(
    name="star-graph",
    description="Write the path from the centre of a star to a goal.",
    output_format="=",  # the prompt's last sign; anything else would only make prompts longer
    answer=AnswerSpec(read=AnswerReading.EXACT, compare=AnswerComparison.TEXT),
)
METHODS: dict[str, dict[str, Any]] = {
    "dpo": {"train.method": "dpo"},
    "stepwise": {"train.method": "stepwise"},
    "stepwise-step": {"train.method": "stepwise", "train.stepwise.pairs": "step"},
}
START, CONTROL = "SFT so far", "sft"
LABELS = {
    START: START,
    CONTROL: "more SFT",
    "dpo": "DPO",
    "stepwise": "per-step\nDPO",
    "stepwise-step": "per-step DPO,\nsteps",
}
SFT_MODELS = {START: "sft-so-far", CONTROL: "sft-more"}
"""Folders of the models that are made by SFT alone."""
FIRST_NODE = 1
"""Number of the step that writes the first node after the centre."""
CHECKED_EVERY = 25
"""Steps of SFT."""


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    kept = Kept(options.output / "star_graph.jsonl", options)
    with Verifier(TASK.answer) as verifier:
        for start in starts(options):
            for seed in options.seeds:
                run_seed(options, seed, start, verifier, kept)
    print_means(kept.rows, options)
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    found = {"options": settings, "rows": kept.rows}
    (options.output / "star_graph.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(kept.rows, options, options.output / "star_graph.svg")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--degree", type=int, default=2)
    parser.add_argument("--arm", type=int, default=2, help="nodes of an arm, without the centre")
    parser.add_argument("--nodes", type=int, default=8, help="names that nodes are drawn from")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--sft-steps", type=int, default=1000, help="at most")
    parser.add_argument("--sft-until", type=float, default=0.55, help="share of right first nodes that ends SFT")
    parser.add_argument("--graphs", type=int, default=20_000, help="graphs of the under-trained model's SFT")
    parser.add_argument("--few", type=int, default=500, help="of the over-trained model's; 0: without it")
    parser.add_argument("--problems", type=int, default=6000, help="other graphs, that the methods learn from")
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--rollouts", type=int, default=8, help="of a prefix")
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps of each method")
    parser.add_argument("--batch", type=int, default=64, help="graphs, or pairs, of a step")
    parser.add_argument("--sft-rate", type=float, default=1e-3, help="learning rate of SFT")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="of the other methods")
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/star-graph"))
    return parser.parse_args()


class Kept:
    """Rows that are done, on disk as they come; those of other options are refused."""

    def __init__(self, path: Path, options: argparse.Namespace) -> None:
        self.path = path
        left = ("seeds", "methods", "few", "threads", "output")
        self.key = {name: value for name, value in vars(options).items() if name not in left}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        if any(row["options"] != self.key for row in self.rows):
            raise SystemExit(f"{path}: holds rows of other options; give another --output, or remove it")

    def has(self, seed: int, start: int, method: str) -> bool:
        return any((row["seed"], row["start"], row["method"]) == (seed, start, method) for row in self.rows)

    def add(self, **row: Any) -> None:
        self.rows.append({**row, "options": self.key})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")
        print(describe(row), flush=True)


def star(draw: random.Random, degree: int, arm: int, nodes: int) -> tuple[str, str]:
    """A graph and its goal as the input, and the path as the wanted output."""
    names = draw.sample(range(nodes), 1 + degree * arm)
    centre, rest = names[0], names[1:]
    arms = [[centre, *rest[place : place + arm]] for place in range(0, len(rest), arm)]
    edges = [edge for nodes_of_arm in arms for edge in pairwise(nodes_of_arm)]
    draw.shuffle(edges)
    path = draw.choice(arms)
    return "|".join(f"{a},{b}" for a, b in edges) + f"/{centre},{path[-1]}", "\n".join(map(str, path))


def starts(options: argparse.Namespace) -> list[int]:
    """The SFT models by their number of graphs, the under-trained one first."""
    return [count for count in (options.graphs, options.few) if count]


def make_samples(options: argparse.Namespace, seed: int) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """Different graphs: held out, for the methods, and for SFT."""
    draw = random.Random(f"graphs {seed}")
    sizes = (options.held_out, options.problems, max(starts(options)))
    found: dict[str, str] = {}
    while len(found) < sum(sizes):
        graph, path = star(draw, options.degree, options.arm, options.nodes)
        found.setdefault(graph, path)
    samples = [
        Sample(id=f"g{n}", input=graph, solution=path, answer=path) for n, (graph, path) in enumerate(found.items())
    ]
    first, second, _ = sizes
    return samples[:first], samples[first : first + second], samples[first + second :]


def run_seed(options: argparse.Namespace, seed: int, start: int, verifier: Verifier, kept: Kept) -> None:
    """A row for the SFT model on ``start`` graphs and for every continuation of it."""
    missing = [method for method in (START, CONTROL, *options.methods) if not kept.has(seed, start, method)]
    if not missing:
        return
    held_out, problems, graphs = make_samples(options, seed)
    folder = options.output / f"seed-{seed}-{start}"
    sft_steps = train_sft_models(options, seed, graphs[:start], problems, folder)
    for method in missing:
        if method in SFT_MODELS:
            settings = PolicyConfig.model_validate(policy_settings(options))
            policy = load_policy(folder / SFT_MODELS[method], TASK, settings)
            seen = score(policy, graphs[: min(start, options.held_out)])["first_node"]
            steps = sft_steps + (options.steps if method == CONTROL else 0)
            row = {**score(policy, held_out), "first_node_seen": seen, "sft_steps": steps}
        else:
            row = continue_by(method, options, seed, problems, held_out, folder, verifier)
        kept.add(seed=seed, start=start, method=method, **row)


def train_sft_models(
    options: argparse.Namespace, seed: int, graphs: list[Sample], problems: list[Sample], folder: Path
) -> int:
    """Train a transformer from scratch on the graphs, and keep it where SFT ends and ``--steps`` steps later.

    Gives the steps of the first. SFT on few graphs takes all its steps: it never looks ahead on others.
    """
    taken = folder / "sft_steps.json"
    if taken.exists():
        return int(json.loads(taken.read_text(encoding="utf-8")))
    tokenizer = make_tokenizer(options.nodes)
    model = fresh_transformer(tokenizer, width=options.width, layers=options.layers, seed=seed)
    encode = PromptEncoder(TASK, tokenizer, "plain")

    def rows(samples: list[Sample]) -> list[tuple[list[int], list[int]]]:
        return [(encode.prompt_ids(sample.input), encode.completion_ids(sample.solution)) for sample in samples]

    watched = rows(problems[: options.held_out])
    ended: list[int] = []

    def after_step(step: int) -> bool:
        every = options.few != len(graphs) and step % CHECKED_EVERY == 0
        if not ended and (step == options.sft_steps or (every and first_nodes(model, watched) >= options.sft_until)):
            ended.append(step)
            save_checkpoint(model, tokenizer, folder / SFT_MODELS[START])
        if ended and step == ended[0] + options.steps:
            save_checkpoint(model, tokenizer, folder / SFT_MODELS[CONTROL])
        return bool(ended) and step == ended[0] + options.steps

    train_from_scratch(
        model,
        rows(graphs),
        steps=options.sft_steps + options.steps,
        batch=options.batch,
        learning_rate=options.sft_rate,
        seed=seed,
        after_step=after_step,
    )
    taken.write_text(json.dumps(ended[0]), encoding="utf-8")
    return ended[0]


def first_nodes(model: LlamaForCausalLM, rows: list[tuple[list[int], list[int]]]) -> float:
    """Share of graphs whose likeliest first node, after the centre, is the right one."""
    place = 2 * FIRST_NODE  # of the node in the completion: a line break stands between two
    ids = torch.tensor([[*prompt, *path[: place + 1]] for prompt, path in rows])
    model.eval()
    with torch.no_grad():
        likeliest = model(input_ids=ids[:, :-1]).logits[:, -1].argmax(dim=1)
    model.train()
    return float((likeliest == ids[:, -1]).float().mean())


def make_tokenizer(nodes: int) -> PreTrainedTokenizerFast:
    """A token a node, a sign, a line break; commas, which tell nothing more, are no tokens."""
    return word_tokenizer(["\n", "|", "/", "=", *map(str, range(nodes))], r"\d+|[^\d]", removed=",")


def policy_settings(options: argparse.Namespace) -> dict[str, Any]:
    # two tokens more than the right response has
    return {"device": "cpu", "dtype": "float32", "max_new_tokens": 2 * (options.arm + 1) + 2, "prompt": "plain"}


def continue_by(
    method: str,
    options: argparse.Namespace,
    seed: int,
    problems: list[Sample],
    held_out: list[Sample],
    folder: Path,
    verifier: Verifier,
) -> dict[str, Any]:
    """Train by one of ``METHODS`` from the SFT model in ``folder``; gives its row."""
    overrides = {
        "seed": seed,
        "train.dpo.batch": options.batch,
        "train.dpo.max_steps": options.steps,
        "train.dpo.learning_rate": options.learning_rate,
        "train.dpo.beta": options.beta,
        "train.dpo.attempts": options.rollouts,
        "train.dpo.temperature": 1.0,
        "train.stepwise.rollouts": options.rollouts,
        "train.stepwise.temperature": 1.0,
        "train.stepwise.steps": "lines",
        "train.micro_batch": options.batch,
        "train.save_every": options.steps,
        **{f"policy.{key}": value for key, value in policy_settings(options).items()},
        **METHODS[method],
    }
    path, start = folder / method, folder / SFT_MODELS[START]
    shutil.rmtree(path, ignore_errors=True)  # half of a training, which takes less time than a start from half does
    run = RunDirectory.create(path, TASK, build_config(overrides=overrides))
    directory = run.stage(Stage.TRAIN)
    directory.open()
    started = time.perf_counter()
    try:
        training = train_policy(
            TASK,
            problems,
            run.config,
            start=start,
            model_path=run.model_path,
            verifier=verifier,
            directory=directory,
        )
    except RunError as error:  # nothing to learn from: the model stays what it was
        untrained = load_policy(start, TASK, run.config.policy)
        return {**score(untrained, held_out), "not_trained": error.message}
    seconds = time.perf_counter() - started
    row = score(load_policy(run.model_path, TASK, run.config.policy), held_out)
    row |= {"seconds": seconds, "pairs": training.counts["pairs"], "rollouts": training.counts["rollouts"]}
    if "steps.jsonl" in training.artifacts:
        pits = Counter(values.pit for values in directory.read_records("steps.jsonl", StepValues))
        row["pits"] = {("none" if pit is None else str(pit)): pits[pit] for pit in sorted(pits, key=str)}
    return row


def score(policy: TransformersPolicy, samples: list[Sample]) -> dict[str, Any]:
    """Shares of graphs with the right path, the right first node, and any whole arm."""
    groups = policy.complete([sample.input for sample in samples], count=1, temperature=0.0, seed=0)
    texts = [group[0].text for group in groups]
    pairs = list(zip(texts, samples, strict=True))
    return {
        "accuracy": statistics.fmean(text == sample.answer for text, sample in pairs),
        "first_node": statistics.fmean(text.split("\n")[:2] == sample.answer.split("\n")[:2] for text, sample in pairs),
        "whole_arm": statistics.fmean(is_arm(text, sample) for text, sample in pairs),
    }


def is_arm(text: str, sample: Sample) -> bool:
    """Whether the text is a path along edges, as long as the right one, from the centre."""
    edges = set(sample.input.split("/")[0].split("|"))
    nodes, right = text.split("\n"), sample.answer.split("\n")
    follows = all(f"{a},{b}" in edges for a, b in pairwise(nodes))
    return len(nodes) == len(right) and nodes[0] == right[0] and follows


def describe(row: dict[str, Any]) -> str:
    more = ", ".join(f"{key} {row[key]}" for key in ("pairs", "rollouts", "pits", "not_trained") if key in row)
    if "first_node_seen" in row:
        more = f"{row['sft_steps']} steps, first node on graphs of SFT {row['first_node_seen']:.1%}"
    return (
        f"seed {row['seed']}  SFT on {row['start']:5} graphs, {row['method']:<13} accuracy {row['accuracy']:6.1%}  "
        f"first node {row['first_node']:6.1%}  a whole arm {row['whole_arm']:6.1%}  {more}"
    )


def accuracies(rows: list[dict[str, Any]], options: argparse.Namespace, start: int) -> dict[str, list[float]]:
    """Of each method that has rows, a seed each."""
    found = {
        method: [row["accuracy"] for row in rows if (row["start"], row["method"]) == (start, method)]
        for method in (START, CONTROL, *options.methods)
    }
    return {method: shares for method, shares in found.items() if shares}


def print_means(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    print(f"\nchance {1 / options.degree:.1%}; mean ± standard deviation over seeds {options.seeds}:")
    for start in starts(options):
        for method, shares in accuracies(rows, options, start).items():
            spread = f" ± {statistics.stdev(shares):.1%}" if len(shares) > 1 else ""
            print(f"  SFT on {start:5} graphs, {method:<13} {statistics.fmean(shares):6.1%}{spread}")
    pits: Counter[str] = Counter()
    for row in rows:
        if (row["start"], row["method"]) == (options.graphs, "stepwise"):
            pits.update(row.get("pits", {}))
    found = sum(count for pit, count in pits.items() if pit != "none")
    if found:
        print(f"pits of the under-trained models at the first node: {pits[str(FIRST_NODE)] / found:.1%} of {found}")


def draw(rows: list[dict[str, Any]], options: argparse.Namespace, path: Path) -> None:
    """Accuracy of each model, a dot a seed and a bar for the mean, against chance."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "star graph", "font.size": 11}
    from matplotlib import pyplot

    models = starts(options)
    figure, panels = pyplot.subplots(1, len(models), figsize=(5.2 * len(models), 4), sharey=True, squeeze=False)
    for panel, start in zip(panels[0], models, strict=True):
        found = accuracies(rows, options, start)
        for place, shares in enumerate(found.values()):
            panel.bar(place, statistics.fmean(shares), width=0.6, color="#d5e3ec")
            panel.plot([place] * len(shares), shares, "o", color="#0b6e99", markersize=5)
        panel.axhline(1 / options.degree, color="#b5651d", linestyle="--", linewidth=1)
        names = [LABELS[method] for method in found]
        panel.text(len(names) - 0.55, 1 / options.degree, "chance", color="#b5651d", ha="right", va="bottom")
        panel.set_xticks(range(len(names)), names, fontsize=9)
        panel.set_title(f"SFT on {start:,} graphs")
        panel.set_ylim(0, 1)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("held-out accuracy (exact path)")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()

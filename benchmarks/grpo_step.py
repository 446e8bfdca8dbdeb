"""How long does one GRPO step take, with TRL's stock trainer and with taskdef's?

    python benchmarks/grpo_step.py [--cases short long] [--steps 3] [--variants …] [--model builtin:smollm2-135m]

Same model, same prompts, same number and length of completions, KL to the reference model included, a signal in every
group (so nothing is left out that stock would have to compute):

    short   8 prompts of about 54 tokens x 8 completions of 12 tokens
    long    4 prompts of about 700 tokens x 16 completions of 16 tokens

Stock TRL is measured in several settings (weights and micro-batch); the best of them is what taskdef is compared with.
Every variant runs in a process of its own: a step to warm up, then the steps that count. Prints seconds a step,
completion tokens a second, peak memory of the process and the ratios; writes the same to grpo_step.json. Runs on a GPU
where one is visible.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

CASES = {"short": (8, 54, 8, 12), "long": (4, 700, 16, 16)}
"""Prompts, tokens of each, completions of each, tokens of each."""
VARIANTS = ("trl-bf16", "trl-bf16-micro16", "trl-autocast", "trl-fp32", "taskdef")
LIBRARY = Path(__file__).parent / "library"


def main() -> None:
    options = parse_arguments()
    if options.run is not None:
        print(json.dumps(measure(*options.run, model_name=options.model, steps=options.steps)))
        return
    results: dict[str, dict[str, Any]] = {}
    for case in options.cases:
        for variant in options.variants:
            command = [sys.executable, __file__, "--run", case, variant, "--steps", str(options.steps)]
            done = subprocess.run([*command, "--model", options.model], capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{case} {variant} failed:\n{done.stderr[-3000:]}")
            result = json.loads(done.stdout.strip().splitlines()[-1])
            results.setdefault(case, {})[variant] = result
            print(f"{case:<6} {variant:<18} {describe(result)}", flush=True)
    for case, found in results.items():
        print(f"{case}: {ratio_text(found)}")
    Path("grpo_step.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def describe(result: dict[str, Any]) -> str:
    seconds = statistics.median(result["seconds"])
    spread = f"{min(result['seconds']):.2f} to {max(result['seconds']):.2f}"
    return (
        f"{seconds:7.2f} s a step ({spread}), {result['tokens'] / seconds:7.1f} completion tokens a second, "
        f"peak {result['peak_mib']:,.0f} MiB"
    )


def ratio_text(found: dict[str, Any]) -> str:
    stock = {name: statistics.median(result["seconds"]) for name, result in found.items() if name != "taskdef"}
    if "taskdef" not in found or not stock:
        return "nothing to compare"
    best = min(stock, key=lambda name: stock[name])
    ours = statistics.median(found["taskdef"]["seconds"])
    memory = found[best]["peak_mib"] / found["taskdef"]["peak_mib"]
    return f"taskdef is {stock[best] / ours:.1f} times as fast as {best}, in 1/{memory:.2f} of its memory"


def measure(case: str, variant: str, *, model_name: str, steps: int) -> dict[str, Any]:
    """Seconds of each step that counts, and the peak memory, of one variant."""
    import torch
    from transformers import TrainerCallback

    from taskdef.config import PolicyConfig
    from taskdef.policy.load import load_model, load_tokenizer, pick_device, resolve_model

    prompts, prompt_tokens, completions, completion_tokens = CASES[case]
    source = resolve_model(model_name)
    device = pick_device(PolicyConfig())
    tokenizer = load_tokenizer(source)
    dtype = torch.float32 if variant in ("trl-fp32", "trl-autocast") else torch.bfloat16
    model = load_model(source, dtype=dtype, device=device)
    texts = prompt_texts(tokenizer, prompts * (steps + 1), prompt_tokens)

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.marks: list[float] = []

        def on_step_begin(self, *_arguments: Any, **_named: Any) -> None:
            self.marks.append(time.perf_counter())

        def on_train_end(self, *_arguments: Any, **_named: Any) -> None:
            self.marks.append(time.perf_counter())

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            variant, model, tokenizer, texts, completions, completion_tokens, steps + 1, folder, device.type == "cpu"
        )
        trainer.add_callback(clock)
        trainer.train()
    # A step begins before its rollouts. The first one warms up.
    seconds = [later - earlier for earlier, later in pairwise(clock.marks)][1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    return {"seconds": seconds, "tokens": prompts * completions * completion_tokens, "peak_mib": peak}


def prompt_texts(tokenizer: Any, count: int, tokens: int) -> list[str]:
    """Texts of about that many tokens, cut at different places out of real passages, all different."""
    text = " ".join(json.loads(line)["text"] for file in sorted(LIBRARY.glob("*.jsonl")) for line in file.open())
    ids = tokenizer(text)["input_ids"]
    ids = ids * (1 + (count * 7 + tokens) // len(ids))
    return [tokenizer.decode(ids[start * 7 : start * 7 + tokens]) for start in range(count)]


def make_trainer(
    variant: str,
    model: Any,
    tokenizer: Any,
    texts: list[str],
    completions: int,
    completion_tokens: int,
    steps: int,
    folder: str,
    use_cpu: bool,
) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from taskdef.policy.master_weights import MasterWeightAdamW
    from taskdef.train.grpo import SharedPrefillGRPOTrainer

    sequences = len(texts) // steps * completions
    micro_batch = 16 if variant == "trl-bf16-micro16" else sequences
    arguments = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=sequences // micro_batch,
        num_generations=completions,
        max_steps=steps,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        max_completion_length=completion_tokens,
        temperature=1.2,
        beta=0.01,
        loss_type="dapo",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
        use_cpu=use_cpu,
        bf16=variant == "trl-autocast",
        gradient_checkpointing=False,
        generation_kwargs={"min_new_tokens": completion_tokens},
    )
    named: dict[str, Any] = {
        "model": model,
        "reward_funcs": alternate,
        "args": arguments,
        "train_dataset": Dataset.from_list([{"prompt": text} for text in texts]),
        "processing_class": tokenizer,
    }
    if variant != "taskdef":
        return GRPOTrainer(**named)
    return SharedPrefillGRPOTrainer(
        **named,
        optimizers=(MasterWeightAdamW(model.parameters(), arguments.learning_rate, weight_decay=0.0), None),
        encoder=PlainEncoder(tokenizer),
        stop_ids=frozenset(),  # every completion has its full length, as in stock with min_new_tokens
        batch_tokens=1 << 20,
    )


class PlainEncoder:
    """The same token ids that TRL makes of a plain prompt."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def prompt_ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids


def alternate(completions: list[str], **_rest: Any) -> list[float]:
    """A reward that differs inside every group."""
    return [float(position % 2) for position in range(len(completions))]


if __name__ == "__main__":
    main()

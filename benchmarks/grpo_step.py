"""How long does one GRPO step take, with TRL's stock trainer and with taskdef's?

    python benchmarks/grpo_step.py [--cases short long] [--steps 3] [--variants …] [--model builtin:smollm2-135m]
    python benchmarks/grpo_step.py --cases long --steps 1 --warm-up 0      # where a stock step takes minutes

Same model, same prompts, same number and length of completions, KL to the reference model included, a signal in every
group (so nothing is left out that stock would have to compute):

    short   8 prompts of about 54 tokens x 8 completions of 12 tokens
    long    4 prompts of about 700 tokens x 16 completions of 16 tokens

Stock TRL is measured in several settings (weights and micro-batch); the best of them is what taskdef is compared with.
Every variant runs in a process of its own: a step to warm up, then the steps that count. Prints seconds a step on the
clock and of the processor (all cores; what counts where others use the machine too), completion tokens a second, peak
memory of the process and the ratios; for taskdef also where the time goes, beside the least that its matrix products
take at the rate measured in the same process. Writes the same to grpo_step.json. Runs on a GPU where one is visible.
"""

from __future__ import annotations

import argparse
import json
import re
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
VARIANTS = {
    "short": ("trl-bf16", "trl-bf16-micro16", "trl-autocast", "trl-fp32", "taskdef", "taskdef-micro16"),
    "long": ("trl-bf16-micro4", "taskdef", "taskdef-micro16"),
}
"""Measured by default. All sequences go through the model at once, or with ``-microN`` N of them. In the long case
stock needs more than 13 GB for 16 at once."""
LIBRARY = Path(__file__).parent / "library"


def main() -> None:
    options = parse_arguments()
    if options.run is not None:
        print(json.dumps(measure(*options.run, model_name=options.model, steps=options.steps, warm_up=options.warm_up)))
        return
    results: dict[str, dict[str, Any]] = {}
    for case in options.cases:
        for variant in options.variants or VARIANTS[case]:
            command = [sys.executable, __file__, "--run", case, variant, "--steps", str(options.steps)]
            command += ["--warm-up", str(options.warm_up)]
            done = subprocess.run([*command, "--model", options.model], capture_output=True, text=True)
            if done.returncode:  # killed for memory, for instance: the others are still worth having
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                print(f"{case:<6} {variant:<18} failed with exit code {done.returncode}: {last}", flush=True)
                continue
            result = json.loads(done.stdout.strip().splitlines()[-1])
            results.setdefault(case, {})[variant] = result
            print(f"{case:<6} {variant:<18} {describe(result)}", flush=True)
            for line in describe_phases(result):
                print(f"       {line}", flush=True)
    for case, found in results.items():
        print(f"{case}: {ratio_text(found)}")
    Path("grpo_step.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--variants", nargs="+", help=f"by default {VARIANTS}")
    parser.add_argument("--steps", type=int, default=3, help="steps that count")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before them")
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for variant in options.variants or []:
        if not re.fullmatch(r"(taskdef|trl-(bf16|autocast|fp32))(-micro\d+)?", variant):
            parser.error(
                f"{variant}: no such variant; taskdef, trl-bf16, trl-autocast and trl-fp32 are, and each with -microN"
            )
    return options


def describe(result: dict[str, Any]) -> str:
    seconds = statistics.median(result["seconds"])
    spread = f"{min(result['seconds']):.2f} to {max(result['seconds']):.2f}"
    return (
        f"{seconds:7.2f} s a step ({spread}), {statistics.median(result['processor_seconds']):7.2f} s of processor, "
        f"{result['tokens'] / seconds:7.1f} completion tokens a second, peak {result['peak_mib']:,.0f} MiB"
    )


def describe_phases(result: dict[str, Any]) -> list[str]:
    """Processor seconds a step of each phase, and the floor."""
    if not result["phases"]:
        return []
    steps = len(result["seconds"])
    phases = ", ".join(f"{name} {seconds / steps:.2f}" for name, seconds in result["phases"].items())
    floor = result["operations"] / result["rate"]
    mean = sum(result["processor_seconds"]) / steps
    return [
        f"processor seconds a step: {phases}",
        f"floor: {result['operations'] / 1e12:.2f} Tflop in matrix products, {floor:.2f} s at "
        f"{result['rate'] / 1e9:.0f} Gflop/s a core; the step takes {mean / floor:.2f} times that",
    ]


def ratio_text(found: dict[str, dict[str, Any]]) -> str:
    """The fastest of stock's settings against the fastest of taskdef's."""
    seconds = {name: statistics.median(each["seconds"]) for name, each in found.items()}
    ours = [name for name in seconds if name.startswith("taskdef")]
    stock = [name for name in seconds if not name.startswith("taskdef")]
    if not ours or not stock:
        return "no pair to compare"
    best, theirs = (min(names, key=lambda name: seconds[name]) for names in (ours, stock))
    processor = [statistics.median(found[name]["processor_seconds"]) for name in (theirs, best)]
    memory = found[theirs]["peak_mib"] / found[best]["peak_mib"]
    return (
        f"{best} is {seconds[theirs] / seconds[best]:.1f} times as fast as {theirs} by the clock and "
        f"{processor[0] / processor[1]:.1f} times by the processor's time, in 1/{memory:.2f} of its memory"
    )


def measure(case: str, variant: str, *, model_name: str, steps: int, warm_up: int) -> dict[str, Any]:
    """Seconds of each step that counts, the peak memory, and for taskdef the phases, of one variant."""
    import torch
    from transformers import TrainerCallback

    from taskdef.config import PolicyConfig
    from taskdef.policy.load import load_model, load_tokenizer, pick_device, resolve_model

    prompts, prompt_tokens, completions, completion_tokens = CASES[case]
    source = resolve_model(model_name)
    device = pick_device(PolicyConfig())
    tokenizer = load_tokenizer(source)
    dtype = torch.float32 if variant.startswith(("trl-fp32", "trl-autocast")) else torch.bfloat16
    model = load_model(source, dtype=dtype, device=device)
    texts = prompt_texts(tokenizer, prompts * (steps + warm_up), prompt_tokens)
    phases = time_phases() if variant.startswith("taskdef") and device.type == "cpu" else {}

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.marks: list[tuple[float, float]] = []

        def on_step_begin(self, *_arguments: Any, **_named: Any) -> None:
            self.marks.append((time.perf_counter(), time.process_time()))
            if len(self.marks) == warm_up + 1:
                phases.update(dict.fromkeys(phases, 0.0))

        def on_train_end(self, *_arguments: Any, **_named: Any) -> None:
            self.marks.append((time.perf_counter(), time.process_time()))

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            variant,
            model,
            tokenizer,
            texts,
            completions,
            completion_tokens,
            steps + warm_up,
            folder,
            device.type == "cpu",
        )
        trainer.add_callback(clock)
        trainer.train()
    # A step begins before its rollouts. The first ones warm up.
    by_clock, by_processor = (
        [later - earlier for earlier, later in pairwise(mark[kind] for mark in clock.marks)][warm_up:]
        for kind in (0, 1)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    return {
        "seconds": by_clock,
        "processor_seconds": by_processor,
        "tokens": prompts * completions * completion_tokens,
        "peak_mib": peak,
        "phases": phases,
        "operations": least_operations(model, *CASES[case]),
        "rate": product_rate(model) if phases else 0.0,
    }


def time_phases() -> dict[str, float]:
    """Processor seconds of each phase of taskdef's step, which is written down from now on."""
    from accelerate import Accelerator

    from taskdef.policy import branches
    from taskdef.policy.master_weights import MasterWeightAdamW
    from taskdef.train.grpo import SharedPrefillGRPOTrainer

    spent: dict[str, float] = {}

    def watch(owner: Any, method: str, phase: str) -> None:
        original = getattr(owner, method)
        spent[phase] = 0.0

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            result = original(*arguments, **named)
            spent[phase] += time.process_time() - began
            return result

        setattr(owner, method, timed)

    watch(branches, "_prefill", "prefill")
    watch(branches.SharedBranches, "advance", "decode")
    watch(SharedPrefillGRPOTrainer, "_reference_log_probabilities", "reference")
    watch(SharedPrefillGRPOTrainer, "_compute_loss", "forward")
    watch(Accelerator, "backward", "backward")
    watch(MasterWeightAdamW, "step", "optimizer")
    return spent


def least_operations(model: Any, prompts: int, prompt_tokens: int, completions: int, completion_tokens: int) -> float:
    """Floating-point operations of a step's matrix products where each prompt is worked on once.

    Two for each weight and position forward, twice as many backward; the head only where a token is predicted.
    Attention's own products are left out: they are a few percent, and less the better they are arranged.
    """
    head = model.get_output_embeddings().weight.numel()
    layers = sum(each.numel() for each in model.parameters() if each.dim() == 2) - head
    tokens = prompts * completions * completion_tokens
    packed = layers * (prompts * prompt_tokens + tokens) + head * tokens
    rollouts = layers * (prompts * prompt_tokens + tokens - prompts * completions) + head * tokens
    return 2.0 * (rollouts + packed + 3 * packed)  # the reference model, then forward and backward


def product_rate(model: Any) -> float:
    """Floating-point operations a second of one core in a product of a layer's size."""
    import torch

    weight = next(each for name, each in model.named_parameters() if "up_proj" in name)
    states = torch.randn(1024, weight.shape[1]).to(weight.dtype)
    best = 0.0
    with torch.inference_mode():
        for _ in range(5):
            began = time.process_time()
            for _ in range(10):
                torch.nn.functional.linear(states, weight)
            spent = time.process_time() - began
            best = max(best, 10 * 2 * len(states) * weight.numel() / spent)
    return best


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
    _, _, at_once = variant.partition("-micro")
    micro_batch = int(at_once or sequences)
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
        bf16=variant.startswith("trl-autocast"),
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
    if not variant.startswith("taskdef"):
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

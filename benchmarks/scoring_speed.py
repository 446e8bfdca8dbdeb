"""How many tokens a second does scoring sample: taskdef's sampler, transformers' generate, and vLLM?

    python benchmarks/scoring_speed.py [--prompts 32] [--attempts 64] [--prompt-tokens 54] [--tokens 24]
                                       [--vllm-python PATH] [--variants own generate-2 generate-8 vllm]

64 attempts on each of 32 prompts, temperature 0.7, every attempt of full length, bf16. ``generate-N`` is
transformers.generate with num_return_sequences=64 on N prompts at once. vLLM runs where ``--vllm-python`` (by default
this Python) has it; its start is not counted. Every variant runs in a process of its own and samples one prompt before
the clock starts. Prints sampled tokens a second by the clock, processor seconds of all its processes, and the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parent / "library"
Sample = Callable[[list[list[int]]], int]
"""Samples prompts given as tokens and says how many tokens came."""


def main() -> None:
    options = parse_arguments()
    if options.run is not None:
        print(json.dumps(measure(options)))
        return
    found: dict[str, dict[str, float]] = {}
    for variant in options.variants:
        python = options.vllm_python if variant == "vllm" else sys.executable
        done = subprocess.run([python, __file__, *sys.argv[1:], "--run", variant], capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "Error" in line] or ["no message"]
            print(f"{variant:<12} failed with exit code {done.returncode}: {errors[-1]}", flush=True)
            continue
        # vLLM writes its own lines before and after
        found[variant] = result = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        print(
            f"{variant:<12} {result['tokens'] / result['seconds']:8.1f} tokens a second, {result['seconds']:7.1f} s, "
            f"{result['processor']:7.1f} s of processor",
            flush=True,
        )
    if "own" in found:
        own = found["own"]
        for variant, result in found.items():
            if variant != "own":
                print(
                    f"own is {result['seconds'] / own['seconds']:.2f} times as fast as {variant} by the clock, "
                    f"{result['processor'] / own['processor']:.2f} times by the processor's time"
                )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--attempts", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=54)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--model", default=None, help="a model folder; the built-in SmolLM2-135M where not given")
    parser.add_argument("--vllm-python", default=sys.executable)
    parser.add_argument("--variants", nargs="+", default=["own", "generate-2", "generate-8", "vllm"])
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, float]:
    from taskdef.policy.load import load_tokenizer, resolve_model

    source = resolve_model(options.model or "builtin:smollm2-135m")
    text = " ".join(json.loads(line)["text"] for file in sorted(LIBRARY.glob("*.jsonl")) for line in file.open())
    ids = load_tokenizer(source)(text)["input_ids"]
    ids = ids * (1 + (options.prompts * 7 + options.prompt_tokens) // len(ids))
    prompts = [ids[start * 7 : start * 7 + options.prompt_tokens] for start in range(options.prompts)]
    kind, _, together = options.run.partition("-")
    if kind == "vllm":
        sample = sample_by_vllm(source, options)
    elif kind == "generate":
        sample = sample_by_generate(source, options, int(together))
    else:
        sample = sample_by_own(source, options)
    sample(prompts[:1])
    clock, processor = time.perf_counter(), processor_seconds()
    tokens = sample(prompts)
    wanted = options.prompts * options.attempts * options.tokens
    if tokens != wanted:
        raise SystemExit(f"{tokens} tokens instead of {wanted}")
    return {
        "tokens": tokens,
        "seconds": time.perf_counter() - clock,
        "processor": processor_seconds() - processor,
    }


def processor_seconds() -> float:
    """Of this process and those it started, which vLLM's engine is."""
    import psutil

    here = psutil.Process()
    times = [each.cpu_times() for each in (here, *here.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def sample_by_own(source: str, options: argparse.Namespace) -> Sample:
    import torch

    from taskdef.policy.sampling import sample_in_batches

    model = load(source)

    def sample(prompts: list[list[int]]) -> int:
        groups = sample_in_batches(
            model,
            prompts,
            count=options.attempts,
            max_new_tokens=options.tokens,
            temperature=0.7,
            stop_ids=frozenset(),
            pad_id=0,
            generator=torch.Generator(device=model.device).manual_seed(0),
            batch_tokens=65536,
        )
        return sum(len(ids) for group in groups for ids in group)

    return sample


def sample_by_generate(source: str, options: argparse.Namespace, together: int) -> Sample:
    import torch

    model = load(source)

    def sample(prompts: list[list[int]]) -> int:
        tokens = 0
        for start in range(0, len(prompts), together):
            batch = torch.tensor(prompts[start : start + together], device=model.device)
            output = model.generate(
                batch,
                attention_mask=torch.ones_like(batch),
                do_sample=True,
                temperature=0.7,
                top_k=0,
                top_p=1.0,
                num_return_sequences=options.attempts,
                min_new_tokens=options.tokens,
                max_new_tokens=options.tokens,
                pad_token_id=0,
            )
            tokens += output[:, batch.shape[1] :].numel()
        return tokens

    return sample


def load(source: str) -> Any:
    import torch

    from taskdef.config import PolicyConfig
    from taskdef.policy.load import load_model, pick_device

    return load_model(source, dtype=torch.bfloat16, device=pick_device(PolicyConfig()))


def sample_by_vllm(source: str, options: argparse.Namespace) -> Sample:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    from vllm import LLM, SamplingParams

    engine = LLM(
        source,
        dtype="bfloat16",
        max_model_len=options.prompt_tokens + options.tokens,
        max_num_seqs=256,
        enable_chunked_prefill=False,  # takes back a seeded draw where a prompt is cut, which CPU generators cannot
        seed=0,
    )

    def sample(prompts: list[list[int]]) -> int:
        parameters = SamplingParams(
            n=options.attempts, temperature=0.7, max_tokens=options.tokens, ignore_eos=True, detokenize=False, seed=0
        )
        outputs = engine.generate([{"prompt_token_ids": ids} for ids in prompts], parameters, use_tqdm=False)
        return sum(len(one.token_ids) for output in outputs for one in output.outputs)

    return sample


if __name__ == "__main__":
    main()

"""Table 4 at the smallest size that shows anything: a base model of 0.1 million weights that adds some numbers rightly.

    python benchmarks/table4_small.py FOLDER            # task, base model, plan; then the comparison, killed twice
    python benchmarks/table4_small.py FOLDER --prepare  # the first three only

The comparison is killed with SIGKILL in the middle of an adaptation and in the middle of a training, and gone on with.
In the end every stage's settings and inputs must have been computed once. Whatever ordering comes out is printed.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

PLAN = """
name: table4
about: >-
  Table 4 of arXiv 2505.17063 in small: sums and differences of two numbers, a base model of 0.1 million weights, an
  instructor that is a program. It shows that the comparison works; it says nothing about models of billions.
task: task.yaml
settings:
  base_model: {base}
  instructor: "procedural:chain_sum(level.num_terms=0)"
  policy: {{device: cpu, dtype: float32, max_new_tokens: 8, max_prompt_tokens: 64}}
  warm_up.mode: never
  synthesize: {{samples: 120, max_draft_factor: 5, near_duplicate_similarity: 1.0, test_overlap: 1.0}}
  select: {{rollouts: 8, size: 64, temperature: 1.0}}
  train: {{learning_rate: 2.0e-4, batch: 16, completions: 8, max_steps: 8, temperature: 1.0, kl_coefficient: 0.0,
           save_every: 4, micro_batch: 128}}
seeds: [0, 1, 2]
reference: full
keep_models: false
variants:
  full: {{title: "full method, M = 64"}}
  m16: {{title: M = 16, settings: {{select.size: 16}}, own_budget: true}}
  m32: {{title: M = 32, settings: {{select.size: 32}}, own_budget: true}}
  m128: {{title: M = 128, settings: {{select.size: 128}}, own_budget: true}}
  without-pattern: {{settings: {{synthesize.pattern: false}}}}
  without-adaptation: {{settings: {{adapt.enabled: false}}}}
  easy: {{settings: {{select.strategy: easy}}}}
  hard: {{settings: {{select.strategy: hard}}}}
  random: {{settings: {{select.strategy: random}}}}
  all: {{settings: {{select.strategy: all}}, own_budget: true}}
"""
TASK = """
name: small-sums
description: Arithmetic with whole numbers of one or two digits. Add two numbers, or subtract one from the other.
output_format: "####"
answer: {read: number_after_marker, compare: numeric}
test: {path: test.jsonl}
"""
QUESTION = "State the final answer to the following arithmetic problem: {a} {sign} {b} ="


def problem(generator: random.Random) -> tuple[str, str]:
    """One digit each in half of them, two in the others: what the instructor's start level writes."""
    low, high = generator.choice([(0, 9), (10, 99)])
    a, b, sign = generator.randint(low, high), generator.randint(low, high), generator.choice("+-")
    return QUESTION.format(a=a, sign=sign, b=b), f"#### {a + b if sign == '+' else a - b}"


def prepare(folder: Path, steps: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(12345)
    held_out = dict(problem(generator) for _ in range(300))
    rows = [
        json.dumps({"input": question, "output": output}) + "\n" for question, output in list(held_out.items())[:200]
    ]
    (folder / "test.jsonl").write_text("".join(rows))
    (folder / "task.yaml").write_text(TASK)
    (folder / "table4.yaml").write_text(PLAN.format(base=(folder / "base").absolute()))
    if not (folder / "base" / "config.json").exists():
        train_base(folder / "base", set(held_out), steps)


def train_base(folder: Path, held_out: set[str], steps: int) -> None:
    """A Llama of two layers, trained on problems that are not held out; it is right now and then."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    generator = random.Random(1)
    pool = [each for each in (problem(generator) for _ in range(8_000)) if each[0] not in held_out]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    texts = [f"{question}\n\n####\n{output}" for question, output in pool[:2000]]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    started = time.monotonic()
    prompts = [fast(f"{question}\n\n####\n")["input_ids"] for question, _ in pool]
    outputs = [[*fast(output)["input_ids"], 1] for _, output in pool]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, (step + 1) / 50) * (1 - step / steps)
        chosen = generator.sample(range(len(pool)), 64)
        length = max(len(prompts[one]) + len(outputs[one]) for one in chosen)
        ids = torch.zeros(64, length, dtype=torch.long)
        labels = torch.full((64, length), -100)
        for row, one in enumerate(chosen):
            whole = prompts[one] + outputs[one]
            ids[row, : len(whole)] = torch.tensor(whole)
            labels[row, len(prompts[one]) : len(whole)] = torch.tensor(outputs[one])
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 99:
            print(
                f"base model: step {step + 1}, loss {loss.item():.3f}, {time.monotonic() - started:.0f} s", flush=True
            )
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


def compare(folder: Path, kill_at: tuple[str, int] | None) -> int:
    """Start or go on; killed when the journal shows the n-th begin of a stage, some seconds into it."""
    path = folder / "runs" / "table4-small-sums"
    target = path if (path / "comparison.yaml").exists() else folder / "table4.yaml"
    command = [sys.executable, "-c", "from taskdef.cli import main; main()", "compare", str(target)]
    process = subprocess.Popen([*command, "--runs-dir", str(folder / "runs")])
    while process.poll() is None:
        time.sleep(0.05)
        if kill_at is not None and begun(path, kill_at[0]) >= kill_at[1]:
            time.sleep(1)
            process.send_signal(signal.SIGKILL)
            process.wait()
            print(f"killed in {kill_at[0]} {kill_at[1]}", flush=True)
    return process.returncode


def entries(path: Path) -> list[dict[str, object]]:
    journal = path / "journal.jsonl"
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []


def begun(path: Path, stage: str) -> int:
    return sum(entry["event"] == "begun" and entry["stage"] == stage for entry in entries(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prepare", action="store_true", help="task, base model and plan only")
    parser.add_argument("--steps", type=int, default=600, help="of the base model's own training")
    given = parser.parse_args()
    prepare(given.folder, given.steps)
    if given.prepare:
        return
    for kill_at in (("adapt", 1), ("train", 5), None):
        code = compare(given.folder, kill_at)
    path = given.folder / "runs" / "table4-small-sums"
    journal = entries(path)
    computed = Counter((entry["run"], entry["stage"]) for entry in journal if entry["event"] == "computed")
    cut = sum(entry["event"] == "begun" for entry in journal) - computed.total()
    processes = len({entry["process"] for entry in journal})
    shared = sum(entry["event"] == "shared" for entry in journal)
    print(
        f"exit code {code}; {processes} processes; stages computed {computed.total()}, taken over {shared}, cut {cut}"
    )
    print(f"computed more than once: {sum(count > 1 for count in computed.values())}")
    print((path / "comparison.md").read_text())


if __name__ == "__main__":
    main()

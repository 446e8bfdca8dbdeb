"""Writes test.jsonl: 200 different two-term sums and differences that reasoning-gym's chain_sum makes.

    python examples/sums/make_test.py

Half of them have terms of one digit and half terms of two: the mix that the generator itself makes. There are only
200 problems of one digit, so 100 are left for training; of two digits there are 16,200. Training seeds are hashes, so
no seed is safe by its distance alone: every run drops samples that equal a test question, and counts them.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import reasoning_gym

SEED = 982_451_653
ROWS_BY_DIGITS = {1: 100, 2: 100}


def main() -> None:
    """Write the file beside this script."""
    wanted = dict(ROWS_BY_DIGITS)
    questions: dict[str, str] = {}
    dataset = reasoning_gym.create_dataset(
        "chain_sum", min_terms=2, max_terms=2, min_digits=1, max_digits=2, seed=SEED, size=100_000
    )
    for position in itertools.count():
        entry = dataset[position]
        digits = entry["metadata"]["num_digits"]
        if entry["question"] not in questions and wanted[digits]:
            wanted[digits] -= 1
            questions[entry["question"]] = entry["answer"]
        if not any(wanted.values()):
            break
    rows = [{"id": f"sums-{i}", "question": q, "answer": a} for i, (q, a) in enumerate(questions.items())]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    Path(__file__).with_name("test.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Kill -9 at random moments of a generation run: nothing is lost, and nothing that was recorded is asked again."""

import asyncio
import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fault_server import teaching
from generation_runs import DEFINITION, synthesize

from taskdef.instruct.ledger import Ledger
from taskdef.verify.isolated import Verifier


@pytest.mark.parametrize(("kills", "samples"), [(8, 40), pytest.param(200, 400, marks=pytest.mark.slow)])
def test_a_run_killed_many_times_ends_with_the_same_dataset(tmp_path: Path, kills: int, samples: int) -> None:
    ledger, output = tmp_path / "ledger.sqlite", tmp_path / "samples.jsonl"
    moments = random.Random(3)
    with teaching(latency=0.04, takes_n=False) as undisturbed, Verifier(DEFINITION.answer) as verifier:
        expected = asyncio.run(synthesize(tmp_path / "smooth.sqlite", undisturbed.url, samples, verifier))
    with teaching(latency=0.04, takes_n=False) as teacher:
        command = [sys.executable, str(Path(__file__).parent / "generation_runs.py")]
        with subprocess.Popen(
            [*command, str(ledger), str(output), teacher.url, str(samples)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as runs:
            assert runs.stdin is not None
            assert runs.stdout is not None
            ends = []
            for longest in [*(moments.uniform(0.0, 0.35) for _ in range(kills)), 300.0]:
                print(longest, file=runs.stdin, flush=True)
                ends.append(runs.stdout.readline().strip())
            runs.stdin.close()
        assert ends == ["killed"] * kills + ["done"]
        assert output.read_text(encoding="utf-8") == expected
        with closing(Ledger(ledger, read_only=True)) as read:
            totals = read.totals()
    drafts_and_votes = samples * 5
    assert undisturbed.requests == totals.responses == drafts_and_votes
    # Asked again are at most the requests that were in flight at the kills, and the ledger knows how many these were.
    repeated = teacher.requests - drafts_and_votes
    assert 0 <= repeated <= totals.lost <= 8 * kills
    assert sum(count - (4 if "What is" in prompt else 1) for prompt, count in teacher.prompts.items()) == repeated
    assert totals.requests == totals.responses + totals.lost
    print(f"{kills} kills, {drafts_and_votes} calls, {totals.lost} in flight at the kills, {repeated} asked twice")

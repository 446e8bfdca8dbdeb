import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from taskdef.errors import DefinitionError
from taskdef.records import AnswerSpec
from taskdef.verify.isolated import Verifier

NUMBER = AnswerSpec(read="number_after_marker", compare="numeric")
HOSTILE = AnswerSpec(read="function", function="hostile_functions.read", compare="text")


@pytest.fixture(scope="module")
def numbers():
    with Verifier(NUMBER) as verifier:
        yield verifier


@pytest.fixture
def hostile(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with Verifier(HOSTILE, timeout_seconds=0.4) as verifier:
        yield verifier


def test_reads_and_judges_in_order(numbers):
    assert numbers.read_all(["#### 7"])[0].answer == "7"
    assert numbers.read_all(["seven"])[0].answer is None
    texts = [f"#### {number}" for number in range(2000)]
    judgements = numbers.judge([(text, "7", False) for text in texts])
    assert [judgement.answer for judgement in judgements] == [str(number) for number in range(2000)]
    assert [index for index, judgement in enumerate(judgements) if judgement.verdict == "correct"] == [7]


def test_empty_batches_and_strange_texts(numbers):
    assert numbers.judge([]) == []
    texts = ["", "\ud800 #### 5", "x" * 5_000_000 + "#### 5", "\x00#### 5", "#### " + "9" * 100_000]
    verdicts = [judgement.verdict for judgement in numbers.judge([(text, "5", False) for text in texts])]
    assert verdicts == ["no_answer", "correct", "correct", "correct", "wrong"]


def test_tally(numbers):
    tally = numbers.tally(["#### 5", "#### 5.0", "five", "#### 6"])
    assert (tally.answer, tally.votes, tally.vote_count, tally.winners) == ("5", 2, 3, (0, 1))


def test_threads_share_a_verifier(numbers):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: numbers.read_all([f"#### {number}"])[0].answer, range(100)))
    assert answers == [str(number) for number in range(100)]


def test_ten_thousand_judgements_take_a_moment(numbers):
    items = [(f"a line of thought\n#### {number}", "7", False) for number in range(10_000)]
    started = time.monotonic()
    assert len(numbers.judge(items)) == 10_000
    assert time.monotonic() - started < 5  # about 0.4 s on an idle machine


def test_endless_backtracking_costs_its_own_item_only():
    spec = AnswerSpec(read="regex", pattern=r"((a+)+)b$", compare="text")
    with Verifier(spec, timeout_seconds=0.4) as verifier:
        verdicts = verifier.judge([("aab", "aa", False), ("a" * 40, "a", False), ("aab", "aa", False)], lenient=True)
    assert [judgement.verdict for judgement in verdicts] == ["correct", "verifier_error", "correct"]
    assert verdicts[1].lenient_verdict == "verifier_error"
    assert verdicts[1].failure == "no result within 0.4 s"


def test_a_hostile_function_costs_its_own_items_only(hostile):
    texts = ["fine", "hang", "exit", "leave", "raise", "print", "input", "fine"]
    readings = hostile.read_all(texts)
    assert [reading.answer for reading in readings] == ["fine", None, None, None, None, "print", "nothing", "fine"]
    assert [reading.failure for reading in readings[1:5]] == [
        "no result within 0.4 s",
        "the verifier's process ended with exit status 7",
        "SystemExit: 3",
        "ValueError: no good",
    ]
    judgements = hostile.judge([(text, "fine", False) for text in texts[:5]])
    assert [judgement.verdict for judgement in judgements] == ["correct", *["verifier_error"] * 4]
    assert hostile.tally(["fine", "raise", "fine"]).vote_count == 2


def test_a_worker_killed_from_outside_is_replaced():
    with Verifier(NUMBER) as verifier:
        os.kill(verifier._worker._process.pid, signal.SIGKILL)
        verifier._worker._process.wait()
        assert verifier.judge([("#### 5", "5", False)])[0].verdict == "correct"


def test_a_function_that_does_not_import_is_refused_at_once():
    with pytest.raises(DefinitionError, match=r"answer\.function: 'no_such\.read' cannot be imported") as caught:
        Verifier(AnswerSpec(read="function", function="no_such.read", compare="text"))
    assert "package.module.function" in caught.value.next_step


def test_close_ends_the_worker():
    verifier = Verifier(NUMBER)
    process = verifier._worker._process
    verifier.close()
    verifier.close()
    assert process.returncode is not None
    with pytest.raises(RuntimeError, match="closed"):
        verifier.read_all(["#### 5"])


def test_mathematics_works_off_the_main_thread_and_within_a_limit():
    spec = AnswerSpec(read="boxed", compare="math")
    with Verifier(spec, timeout_seconds=1.0) as verifier, ThreadPoolExecutor(1) as pool:
        items = [(r"\boxed{\frac{1}{2}}", "0.5", False), (r"\boxed{9^{9^{9^9}}}", "2", False), ("", "1", False)]
        judgements = pool.submit(verifier.judge, items).result()
    assert [judgement.verdict for judgement in judgements] == ["correct", "verifier_error", "no_answer"]


def test_no_worker_outlives_a_killed_parent(tmp_path):
    script = textwrap.dedent("""
        import time
        from taskdef.records import AnswerSpec
        from taskdef.verify.isolated import Verifier
        verifier = Verifier(AnswerSpec(read="exact", compare="text"))
        print(verifier._worker._process.pid, flush=True)
        time.sleep(60)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while _runs(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(worker)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

"""taskdef retrieve RUN --audit: by a scripted instructor, and by a person through a pseudo-terminal."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskdef.audit import audit_passages
from taskdef.config import build_config
from taskdef.errors import ConfigError, LibraryError, RunError
from taskdef.grading import grade_by_hand
from taskdef.pipeline import run as run_method
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, PassageSource, Stage, TaskDefinition
from taskdef.store import RunDirectory

TASK = TaskDefinition(
    name="sums",
    description="Work out sums of numbers.",
    output_format="#### and the number",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
)
SCRIPT = [
    {"purpose": "keywords", "response": '{"keywords": ["sums", "numbers", "rivers"]}'},
    {"purpose": "grade", "match": "river", "response": '{"relevance": "irrelevant"}'},
    {"purpose": "grade", "match": "unclear", "response": "It is not relevant, I think."},
    {"purpose": "grade", "response": '{"relevance": "relevant"}'},
]


def new_run(folder: Path, texts: list[str], **settings: str) -> RunDirectory:
    library, script = folder / "library.jsonl", folder / "script.jsonl"
    library.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    script.write_text("".join(json.dumps(line) + "\n" for line in SCRIPT))
    definition = TASK.model_copy(update={"passages": (PassageSource(path=library),)})
    config = build_config(overrides={"instructor": f"scripted:{script}", **settings})
    return RunDirectory.create(folder / "run", definition, config)


def test_the_instructor_grades_after_retrieval_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    run = new_run(tmp_path, [*(f"sums of numbers {n}" for n in range(6)), "rivers and a river", "numbers, unclear"])
    audit = audit_passages(run, grades=50)
    assert run.stage(Stage.RETRIEVE).is_done()
    # 6 relevant, 1 irrelevant, 1 whose grade cannot be read; Wilson's interval for 6 of 7 is 0.487 to 0.974
    assert (audit.usable, audit.graded, audit.ungraded, audit.among) == (6, 7, 1, 8)
    assert (audit.low, audit.high) == (pytest.approx(0.487, abs=1e-3), pytest.approx(0.974, abs=1e-3))
    assert audit.may_be_poor
    assert json.loads((run.path / "1-retrieve" / "audit.json").read_text())["usable"]["share"] == audit.share
    calls = run.ledger_path.stat().st_size
    again = audit_passages(run, grades=50)
    assert (again.usable, again.graded) == (6, 7)
    assert run.ledger_path.stat().st_size == calls
    page = run.report_path.read_text(encoding="utf-8")
    assert "Audit by scripted:" in page


def test_only_passages_that_samples_come_from_are_drawn(tmp_path: Path) -> None:
    run = new_run(tmp_path, [f"sums of numbers {n}" for n in range(9)], **{"synthesize.samples": "4"})
    assert audit_passages(run, grades=50).among == 4


def test_an_audit_without_passages_is_refused(tmp_path: Path) -> None:
    run = new_run(tmp_path, ["sums"], **{"retrieve.method": "none"})
    with pytest.raises(LibraryError) as refusal:
        audit_passages(run, grades=5)
    assert refusal.value.message == f"{run.path}: no passages to audit"


def test_a_run_that_is_worked_on_is_left_alone(tmp_path: Path) -> None:
    run = new_run(tmp_path, ["sums"])
    run_method(run.definition, run.config, path=run.path, until=Stage.RETRIEVE)
    with run.locked(), pytest.raises(RunError, match="worked on by another process"):
        audit_passages(run, grades=5)


def test_a_pipe_is_no_person(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(ConfigError) as refusal:
            grade_by_hand(TASK, [], lambda passage, relevance: None)
    assert refusal.value.message == "--by-hand: standard input is no terminal"


class Terminal:
    """A ``taskdef`` command in a terminal of its own, as a person has it."""

    def __init__(self, *words: str) -> None:
        self.screen, ours = pty.openpty()
        code = "import sys; from taskdef.cli import main; sys.argv[0] = 'taskdef'; main()"
        command = [sys.executable, "-c", code, *words]
        environment = os.environ | {"TERM": "dumb", "COLUMNS": "100"}
        self.process = subprocess.Popen(
            command, stdin=ours, stdout=ours, stderr=ours, env=environment, start_new_session=True
        )
        os.close(ours)
        self.text, self.seen = "", 0

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Read until the text is on the screen, after what was waited for before."""
        end = time.monotonic() + seconds
        while (found := self.text.find(text, self.seen)) < 0:
            assert time.monotonic() < end, f"{text!r} does not come; the screen: {self.text[-2000:]}"
            if select.select([self.screen], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.screen, 4096).decode("utf-8", "replace")
                except OSError:  # the other side is closed
                    assert text in self.text[self.seen :], self.text[-2000:]
        self.seen = found + len(text)

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def end(self) -> int:
        code = self.process.wait(timeout=30)
        os.close(self.screen)
        return code


def test_a_person_grades_in_the_terminal_stops_and_goes_on(tmp_path: Path) -> None:
    hostile = "sums \x1b[2J of numbers"
    run = new_run(tmp_path, [hostile, "sums of numbers", "numbers and sums, more sums"])
    words = ("retrieve", str(run.path), "--audit", "--by-hand")

    first = Terminal(*words)
    first.wait_for("[1/3]")
    first.wait_for("r/p/i/s/q > ")
    first.type("yes\n")
    first.wait_for("not one of r/p/i/s/q")
    first.wait_for("> ")
    first.type("i\n")
    first.wait_for("[2/3]")
    first.wait_for("> ")
    first.type("q\n")
    first.wait_for("1 of 3 passages graded by a person: 0 relevant, 0 partly, 1 irrelevant")
    assert first.end() == 0
    assert "\x1b[2J" not in first.text

    second = Terminal(*words)
    second.wait_for("[1/2]")  # the first one's grade is kept
    second.wait_for("> ")
    second.type("r\n")
    second.wait_for("[2/2]")
    second.wait_for("> ")
    second.type("\x04")  # the end of input
    second.wait_for("2 of 3 passages graded by a person: 1 relevant, 0 partly, 1 irrelevant")
    second.wait_for("usable (relevant or partly): 50%, 95% interval 9% to 91%")
    assert second.end() == 0
    grades = (run.path / "1-retrieve" / "grades.jsonl").read_text().splitlines()
    assert [json.loads(line)["relevance"] for line in grades] == ["irrelevant", "relevant"]


def test_by_hand_without_audit_says_what_is_missing(tmp_path: Path) -> None:
    code = "import sys; from taskdef.cli import main; main()"
    words = [sys.executable, "-c", code, "retrieve", str(tmp_path), "--by-hand"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: --by-hand: goes with --audit\nnext: taskdef retrieve {tmp_path} --audit --by-hand\n"
    )

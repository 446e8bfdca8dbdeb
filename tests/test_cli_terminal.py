"""Progress in a pipe, and what becomes of Ctrl-C, a full disk and an odd encoding."""

import asyncio
import errno
import io
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from taskdef.errors import ConfigError, RunError, Stopped
from taskdef.terminal import LineProgress, TerminalProgress, going_on_with, print_error, rate


class Clock:
    """Seconds that pass only when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(*steps: tuple[float, int, str], total: int = 100, done: int = 0) -> list[str]:
    """The lines for advances given as (seconds later, units, note)."""
    stream, clock = io.StringIO(), Clock()
    progress = LineProgress(stream, clock)
    progress.start("votes", total, done)
    for seconds, units, note in steps:
        clock.now += seconds
        progress.advance(units, note)
    progress.finish()
    return stream.getvalue().splitlines()


def test_a_line_after_ten_seconds_with_rate_and_time_left() -> None:
    # 5 of 100 in 10 s: 2 s each, 95 x 2 s = 190 s left.
    assert lines_of((10, 5, "reward 0.25"))[1] == "votes: 5/100 (5%), 2.0 s each, 3 min 10 s left, reward 0.25"


def test_a_line_after_a_tenth_of_the_work() -> None:
    assert lines_of((2, 10, ""))[1] == "votes: 10/100 (10%), 5.0/s, 18 s left"


def test_quick_work_gives_no_flood() -> None:
    assert len(lines_of(*[(0.01, 1, "")] * 100)) == 2


def test_the_last_line_sums_up() -> None:
    assert lines_of((4, 100, ""))[-1] == "votes: 100/100 (100%), 25.0/s, took 4 s"


def test_work_of_an_earlier_process_is_not_counted_as_speed() -> None:
    # 10 of the remaining 50 in 10 s: 1/s, 40 s left.
    first, second, _ = lines_of((10, 10, ""), done=50)
    assert first == "votes: 50/100 (done earlier)"
    assert second == "votes: 60/100 (60%), 1.0/s, 40 s left"


def test_work_of_no_units_is_no_division_by_zero() -> None:
    assert lines_of((20, 0, ""), total=0) == ["votes: 0/0", "votes: 0/0", "votes: 0/0, took 20 s"]


def test_a_bar_takes_every_call_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress()
    progress.advance()
    progress.finish()
    progress.start("[bold]scoring[/]", 2)
    progress.advance(1, "[red]0.5")
    progress.line("a [line]")
    progress.start("training", 3, done=1)
    progress.advance()
    progress.finish()
    shown = capsys.readouterr().err
    assert "a [line]" in shown
    assert "[bold]scoring[/]" in shown
    assert "2/3" in shown


@pytest.mark.parametrize(
    ("units", "seconds", "text"),
    [(0, 5, ""), (5, 0, ""), (30, 10, "3.0/s"), (123456, 10, "12,346/s"), (4, 10, "2.5 s each")],
)
def test_rates(units: float, seconds: float, text: str) -> None:
    assert rate(units, seconds) == text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_terminate_say_how_to_go_on(number: signal.Signals, tmp_path: Path) -> None:
    run = tmp_path / "my run"
    run.mkdir()
    (run / "run.yaml").touch()
    with pytest.raises(Stopped) as caught, going_on_with(run):
        signal.raise_signal(number)
    assert caught.value.next_step == f"go on with: taskdef run '{run}'"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_there_is_a_run_names_no_run(tmp_path: Path) -> None:
    with pytest.raises(Stopped) as caught, going_on_with(tmp_path / "run"):
        signal.raise_signal(signal.SIGINT)
    assert caught.value.next_step == "repeat the same command"


def test_ctrl_c_does_not_wait_for_the_next_await(tmp_path: Path) -> None:
    async def sample_a_model() -> None:
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on")

    with pytest.raises(Stopped), going_on_with(tmp_path):
        asyncio.run(sample_a_model())


def test_a_second_ctrl_c_ends_a_clean_up_that_hangs(tmp_path: Path) -> None:
    code = (
        "import signal, pathlib\n"
        "from taskdef.terminal import going_on_with\n"
        "with going_on_with(pathlib.Path('runs/x')):\n"
        "    try: signal.raise_signal(signal.SIGINT)\n"
        "    finally: signal.raise_signal(signal.SIGINT)\n"
    )
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "run.yaml").touch()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "stopped at once; go on with: taskdef run runs/x\n")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        sqlite3.OperationalError("database or disk is full"),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_said_in_words(error: Exception, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").touch()
    with pytest.raises(RunError) as caught, going_on_with(tmp_path):
        raise error
    assert caught.value.message.startswith(f"{tmp_path}: the disk is full; what is finished is kept")
    assert caught.value.next_step == f"free some space, then go on with: taskdef run {tmp_path}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_appending_to_a_disk_that_is_full_keeps_what_is_there(tmp_path: Path) -> None:
    kept = tmp_path / "samples.jsonl"
    kept.write_text("{}\n")
    (tmp_path / "drops.jsonl").symlink_to("/dev/full")
    full = tmp_path / "drops.jsonl"
    with pytest.raises(RunError, match="the disk is full"), going_on_with(tmp_path), full.open("a") as file:
        file.write("{}\n")
    assert kept.read_text() == "{}\n"


def test_a_run_that_cannot_be_written_is_a_clean_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Permission denied"), going_on_with(tmp_path / "run"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "run" / "1-retrieve"))


def test_a_failure_elsewhere_stays_a_bug(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), going_on_with(tmp_path / "run"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/proc/no-such-file")


def test_an_error_is_printed_whole_on_stderr_without_markup(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    assert print_error(ConfigError(f"[{long}]: no", next_step="try [y]")) == 2
    assert capsys.readouterr() == ("", f"error: [{long}]: no\nnext: try [y]\n")


def test_being_stopped_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_error(Stopped("stopped", next_step="go on with: taskdef run r")) == 130
    assert capsys.readouterr().err == "stopped\nnext: go on with: taskdef run r\n"

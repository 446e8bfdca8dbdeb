"""What a comparison says when something goes wrong: which runs failed and why, and how to go on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from taskdef.compare.comparison import JOURNAL_FILE, Comparison
from taskdef.compare.page import write_pages
from taskdef.compare.results import read_results
from taskdef.compare.run import run_comparison
from taskdef.errors import BudgetReached, OutOfMemory, RunError, Stopped
from taskdef.records import Stage
from taskdef.terminal import going_on_with

NO_SUCH = {name: {"settings": {"instructor": f"procedural:{name}"}} for name in ("nothing", "nobody")}


def test_a_run_that_fails_is_named_and_the_others_go_on(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison(NO_SUCH, seeds=[3])
    comparison.begin()
    for tries in (1, 2):
        with pytest.raises(RunError) as raised:
            run_comparison(comparison)
        message = str(raised.value)
        assert message.startswith(f"{comparison.path}: 2 of 2 runs failed:\n  nothing, seed 3: procedural:nothing: ")
        assert "\n  nobody, seed 3: procedural:nobody: reasoning-gym has no generator 'nobody'" in message
        assert message.endswith(f"\n  next: mend the cause, then: taskdef compare {comparison.path}")
        failed = [entry for entry in comparison.journal() if entry.event == "failed"]
        assert [(entry.run, entry.stage) for entry in failed] == [
            ("nothing-seed3", Stage.RETRIEVE),
            ("nobody-seed3", Stage.RETRIEVE),
        ] * tries
    results = read_results(comparison)
    assert [cell for cell, _ in results.failures] == ["nothing, seed 3", "nobody, seed 3"]
    assert results.lines[0].state.startswith("0 of 1 seeds; failed: retrieve: procedural:nothing: ")
    assert "nobody, seed 3 failed." in write_pages(comparison).read_text()


def test_a_cap_that_is_reached_ends_it_and_says_how_to_raise_the_cap(
    make_comparison: Callable[..., Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reach(*_: object) -> None:
        raise BudgetReached("the cap of 5usd is reached", next_step="taskdef run RUN --budget MORE")

    monkeypatch.setattr("taskdef.pipeline.run_stage", reach)
    comparison = make_comparison(NO_SUCH, settings={"instruct.budget": "5usd"})
    comparison.begin()
    with pytest.raises(BudgetReached) as raised:
        run_comparison(comparison)
    assert str(raised.value) == (
        "nothing, seed 0: the cap of 5usd is reached\n  next: repeat the command that began it, "
        "with --set instruct.budget=MORE, where MORE is above 5usd"
    )


def test_a_run_that_failed_keeps_its_remedy_and_memory_ends_by_the_comparisons_settings(
    make_comparison: Callable[..., Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter(
        (
            OutOfMemory("train: out of memory", settings={"train.micro_batch": 2}, next_step="taskdef run RUN --set …"),
            RunError("no samples", next_step="taskdef show RUN"),
        )
    )

    def fail(*_: object) -> None:
        raise next(faults)

    monkeypatch.setattr("taskdef.pipeline.run_stage", fail)
    comparison = make_comparison(NO_SUCH)
    comparison.begin()
    with pytest.raises(RunError) as raised:
        run_comparison(comparison)
    assert (
        "\n  nothing, seed 0: train: out of memory "
        "(repeat the command that began the comparison, with --set train.micro_batch=2)"
        "\n  nobody, seed 0: no samples (taskdef show RUN)\n"
    ) in str(raised.value)


def test_ctrl_c_says_how_to_go_on(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison(NO_SUCH)

    def stop() -> None:
        with going_on_with(comparison.path, verb="compare", file="comparison.yaml"):
            raise KeyboardInterrupt

    with pytest.raises(Stopped) as raised:
        stop()
    assert raised.value.next_step == "repeat the same command"
    comparison.begin()
    with pytest.raises(Stopped) as raised:
        stop()
    assert raised.value.next_step == f"go on with: taskdef compare {comparison.path}"


def test_two_processes_do_not_work_on_one_comparison(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison(NO_SUCH)
    comparison.begin()
    holder = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(comparison.path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RunError, match="is being worked on by another process") as raised:
            run_comparison(comparison)
        assert str(raised.value.next_step).endswith(f"then: taskdef compare {comparison.path}")
        process.communicate()


def test_a_torn_line_of_the_journal_costs_that_line_only(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison(NO_SUCH)
    comparison.begin()
    run = comparison.run(comparison.matrix.cells[0])
    comparison.write_entry(run, Stage.RETRIEVE, "begun")
    with (comparison.path / JOURNAL_FILE).open("a") as file:
        file.write('{"at": "2026-')
    comparison.write_entry(run, Stage.RETRIEVE, "computed", seconds=1)
    assert [entry.event for entry in comparison.journal()] == ["begun", "computed"]

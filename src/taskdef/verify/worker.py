"""The verifier's worker process: ``python -m taskdef.verify.worker``, started by ``isolated.py`` only.

Protocol, JSON lines in ASCII (so that lone surrogates pass): the first line in is ``{"spec", "timeout_seconds"}``;
the first line out ``{"ready": true}`` or ``{"refused": reason}``. Then batch by batch: a line in is a list of
``[operation, arguments…]``; out come ``"received"`` and one line an item, ``{"value"}`` or ``{"failure"}``, in
order, each flushed when it is done, so that the parent can time every item from outside.

The worker ends when its input ends (the parent is gone), and by an alarm it cannot miss when one item runs long
after the parent should have killed it.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from taskdef.errors import TaskdefError
from taskdef.records import AnswerReading, AnswerSpec
from taskdef.verify.compare import same_answer, warm_up
from taskdef.verify.extract import import_function
from taskdef.verify.judge import judge
from taskdef.verify.read import read_answer


def run_item(spec: AnswerSpec, item: list[Any]) -> Any:
    """Do one operation: ``read`` a text, compare two answers (``same``), or ``judge`` a completion."""
    operation, *arguments = item
    if operation == "read":
        return read_answer(spec, arguments[0])
    if operation == "same":
        return same_answer(spec, arguments[0], arguments[1])
    if operation == "judge":
        text, gold, truncated, lenient = arguments
        judgement = judge(spec, text, gold, truncated=truncated, lenient=lenient)
        return [judgement.answer, judgement.verdict, judgement.lenient_verdict, judgement.failure]
    raise ValueError(f"unknown operation {operation!r}")


def _take_over_streams() -> tuple[int, int]:
    """Move the protocol to private descriptors, so that nothing a user's function reads or prints disturbs it."""
    requests, responses = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return requests, responses


def _silence_errors() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)


def main() -> None:
    """Serve until the input ends."""
    requests, responses = _take_over_streams()
    with open(requests, encoding="ascii") as incoming, open(responses, "w", encoding="ascii") as outgoing:

        def send(message: Any) -> None:
            outgoing.write(json.dumps(message) + "\n")
            outgoing.flush()

        settings = json.loads(incoming.readline() or "null")
        if settings is None:
            return
        spec = AnswerSpec.model_validate(settings["spec"])
        try:
            if spec.read is AnswerReading.FUNCTION:
                import_function(spec.function or "")
            warm_up(spec)
        except TaskdefError as error:
            send({"refused": error.message, "next_step": error.next_step})
            return
        send({"ready": True})
        _silence_errors()  # from here on only a user's function would write there
        longest = 2.0 * settings["timeout_seconds"] + 5.0
        for line in incoming:
            items = json.loads(line)
            send("received")
            for item in items:
                _arm(longest)
                try:
                    response = {"value": run_item(spec, item)}
                except BaseException as error:  # SystemExit and the like too: a user's function may raise anything
                    response = {"failure": f"{type(error).__name__}: {error}"[:500]}
                _arm(0.0)
                send(response)


def _arm(seconds: float) -> None:
    """Let the kernel end this process after ``seconds``; 0 takes that back.

    Needed where the parent was killed while an item hangs: a regular expression that backtracks for ever holds the
    interpreter's lock, so no thread of this process could notice that the parent is gone.
    """
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    main()

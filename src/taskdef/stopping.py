"""Ctrl-C while answers are under way that are paid for: the work is cancelled at an await, and they are waited for.

Otherwise Ctrl-C raises KeyboardInterrupt wherever the process is, since a model that is being sampled awaits nothing
for minutes. Inside an event loop that would end every request in flight: asyncio then cancels all tasks, those too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_takers: list[Callable[[], bool]] = []


@contextmanager
def answers_kept(in_flight: Callable[[], int]) -> Iterator[None]:
    """Around all that an event loop's main task does, cleaning up included: as long as there is something
    ``in_flight``, ``stop_gently`` cancels the task, which becomes KeyboardInterrupt when it has cleaned up."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    stopped = False

    def take() -> bool:
        nonlocal stopped
        if not in_flight():
            return False
        stopped = True
        loop.call_soon_threadsafe(task.cancel)
        return True

    _takers.append(take)
    try:
        yield
    except asyncio.CancelledError:
        if not stopped:
            raise
    finally:
        _takers.remove(take)
    if stopped:
        raise KeyboardInterrupt


def stop_gently() -> bool:
    """From a signal's handler: whether the work was cancelled, so that nothing need be raised there."""
    return any(take() for take in _takers)

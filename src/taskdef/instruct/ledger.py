"""The ledger: every response that was paid for, in one SQLite file, written the moment it arrives.

One transaction a call, in write-ahead mode and flushed to disk: a kill at any moment loses the calls in flight and no
other, and another process can read while this one writes. Only successful responses are kept; requests hold prompts
and parameters, never a key.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from taskdef.errors import RunError
from taskdef.instruct.chat import ChatRequest, ChatResponse, request_fields

_TABLE = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    request TEXT NOT NULL,
    response TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    tries INTEGER NOT NULL,
    finished_at REAL NOT NULL
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class LedgerTotals:
    """What all recorded calls come to."""

    calls: int
    failed_tries: int
    """Failed tries before the recorded responses."""
    prompt_tokens: int
    completion_tokens: int


class Ledger:
    """Responses by request key. Used by one event loop at a time; other processes may read the file meanwhile."""

    def __init__(self, path: Path | None) -> None:
        """Open or create the file; None keeps everything in memory. Raises RunError where it is no ledger."""
        self.path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=30, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute(_TABLE)
        except (sqlite3.Error, OSError) as error:
            raise self._fault(error) from None

    def get(self, key: str) -> ChatResponse | None:
        """The recorded response to a request; None where it was never answered."""
        query = (
            "SELECT response, finish_reason, prompt_tokens, completion_tokens, seconds, tries FROM calls WHERE key=?"
        )
        try:
            row = self._connection.execute(query, (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._fault(error) from None
        return None if row is None else ChatResponse(*row)

    def put(self, key: str, request: ChatRequest, response: ChatResponse, *, model: str, endpoint: str) -> None:
        """Record a response, on disk when this returns. The first response to a request stands."""
        row = (
            key,
            request.purpose,
            json.dumps(request_fields(request, model=model, endpoint=endpoint), ensure_ascii=False),
            response.text,
            response.finish_reason,
            response.prompt_tokens,
            response.completion_tokens,
            response.seconds,
            response.tries,
            time.time(),
        )
        try:
            self._connection.execute("INSERT OR IGNORE INTO calls VALUES (?,?,?,?,?,?,?,?,?,?)", row)
        except sqlite3.Error as error:
            raise self._fault(error) from None

    def totals(self) -> LedgerTotals:
        """What everything recorded so far comes to, earlier processes' calls included."""
        query = "SELECT COUNT(*), TOTAL(tries) - COUNT(*), TOTAL(prompt_tokens), TOTAL(completion_tokens) FROM calls"
        try:
            return LedgerTotals(*(int(value) for value in self._connection.execute(query).fetchone()))
        except sqlite3.Error as error:
            raise self._fault(error) from None

    def close(self) -> None:
        self._connection.close()

    def _fault(self, error: Exception) -> RunError:
        return RunError(
            f"{self.path or 'ledger in memory'}: {error}",
            next_step="free space on the disk or correct the file's rights, then repeat the command; "
            "a damaged file can be moved away, and its calls are then paid for again",
        )

"""The ledger: every request that was sent and every response that came, in one SQLite file.

A request is on record before it is sent and a response before anyone sees it, so that a kill at any moment loses the
requests in flight and nothing else, and the next process knows how many those were. What becomes due in one turn of
the event loop is committed in one transaction, in write-ahead mode and flushed to disk; another process can read
meanwhile. Requests hold prompts and parameters, never a key.

    requests    one exchange with an endpoint: state, fault, tokens, cost, and what to count against a cap
    calls       one response: key, request, parameters, index, text, tokens, cost, latency, tries, finish reason
    prompts     the text of each prompt once, however many responses it got
    learned     what is known about an endpoint's habits
    batches     batches that were submitted (see batch_records.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskdef.config import digest
from taskdef.errors import RunError
from taskdef.instruct.budget import Amount
from taskdef.instruct.chat import ChatRequest, ChatResponse, Usage
from taskdef.instruct.totals import LedgerTotals, PurposeTotals

VERSION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS prompts (digest TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY,
    purpose TEXT NOT NULL,
    state TEXT NOT NULL,            -- open, done, failed, lost (in flight when its process ended);
                                    -- queued (for a batch, not submitted yet), batched
    count INTEGER NOT NULL,         -- responses asked for
    fault TEXT,
    detail TEXT,
    began_at REAL NOT NULL,
    seconds REAL,
    prompt_tokens INTEGER,          -- NULL where the endpoint did not say
    cached_tokens INTEGER,
    completion_tokens INTEGER,
    cost REAL,                      -- US dollars, NULL where unknown
    counted_tokens INTEGER NOT NULL,    -- what a cap counts: the use, or the most it may have been
    counted_cost REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY,
    request_id INTEGER,             -- NULL where the answer came from another run
    purpose TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    prompt TEXT NOT NULL REFERENCES prompts (digest),
    parameters TEXT NOT NULL,
    sample_index INTEGER NOT NULL,
    response TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost REAL,
    seconds REAL NOT NULL,
    tries INTEGER NOT NULL,
    finished_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_by_state ON requests (state);
CREATE TABLE IF NOT EXISTS learned (endpoint TEXT, habit TEXT, value INTEGER, PRIMARY KEY (endpoint, habit));
CREATE TABLE IF NOT EXISTS batches (
    mark TEXT PRIMARY KEY, batch_id TEXT, state TEXT NOT NULL, lines TEXT NOT NULL, began_at REAL NOT NULL
) WITHOUT ROWID;
"""
_RESPONSE = (
    "response, finish_reason, prompt_tokens, completion_tokens, cached_tokens, cost, seconds, tries"  # as ChatResponse
)
_LAST_REQUEST = (  # also those that wait for another batch and are in no table any more
    "SELECT MAX(id) FROM (SELECT id FROM requests UNION ALL SELECT json_extract(line.value, '$.number')"
    " FROM batches, json_each(batches.lines, '$.lines') AS line WHERE batches.state != 'over')"
)
_MOST_VARIABLES = 500
_Statements = list[tuple[str, Sequence[Any]]]


@dataclass(frozen=True)
class Sent:
    """A request on record whose answer is still to come."""

    number: int
    """Its id in the ledger."""
    request: ChatRequest
    indices: tuple[int, ...]
    """Of the responses it asks for."""
    most: Amount
    """What is set aside for it."""


@dataclass(frozen=True)
class Settled:
    """How an exchange ended, for the ledger."""

    state: str
    usage: Usage | None
    cost: float | None
    counted: Amount
    seconds: float
    fault: str | None = None
    detail: str | None = None


class Ledger:
    """Used by one process at a time for writing; any number may read the file meanwhile."""

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        """Open or create the file; without a path it lives in a temporary folder as long as this object.

        Raises RunError where the file is no ledger or cannot be written.
        """
        self.path = path
        self.read_only = read_only
        self._folder = tempfile.TemporaryDirectory(prefix="taskdef-ledger-") if path is None else None
        place = Path(self._folder.name) / "ledger.sqlite" if self._folder else path
        assert place is not None
        self._pending: list[tuple[_Statements, asyncio.Future[None]]] = []
        self._is_due = False
        self._next_request = 1
        try:
            if read_only:
                self._connection = _connect_to_read(place)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(place, timeout=30, isolation_level=None, check_same_thread=False)
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
            self._check_version()
            if not read_only:
                (last,) = self._connection.execute(_LAST_REQUEST).fetchone()
                self._next_request = (last or 0) + 1
        except (sqlite3.Error, OSError) as error:
            raise self._fault(error) from None

    def get(self, keys: Sequence[str]) -> dict[str, ChatResponse]:
        """The recorded responses among ``keys``."""
        found: dict[str, ChatResponse] = {}
        for start in range(0, len(keys), _MOST_VARIABLES):
            part = keys[start : start + _MOST_VARIABLES]
            marks = ",".join("?" * len(part))
            rows = self._all(f"SELECT key, {_RESPONSE} FROM calls WHERE key IN ({marks})", part)
            found |= {row[0]: ChatResponse(*row[1:]) for row in rows}
        return found

    async def open_request(self, request: ChatRequest, count: int, most: Amount, *, queued: bool = False) -> int:
        """Put a request on record that is about to be sent, or ``queued`` for a batch, and may cost ``most``; gives its
        id."""
        number = self._next_request
        self._next_request += 1
        state = "queued" if queued else "open"
        await self.write(
            (
                "INSERT INTO requests (id, purpose, state, count, began_at, counted_tokens, counted_cost)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (number, request.purpose, state, count, time.time(), most.tokens, most.usd),
            )
        )
        return number

    async def settle(
        self,
        number: int,
        settled: Settled,
        responses: Mapping[str, tuple[ChatRequest, ChatResponse]] | None = None,
        *,
        model: str = "",
        address: str = "",
    ) -> None:
        """Record how a request ended and, by key, what it gave. On disk when this returns."""
        usage = settled.usage
        values = (
            *(settled.state, settled.fault, settled.detail, settled.seconds),
            *((usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) if usage else (None, None, None)),
            *(settled.cost, settled.counted.tokens, settled.counted.usd, number),
        )
        statement = (
            "UPDATE requests SET state=?, fault=?, detail=?, seconds=?, prompt_tokens=?, cached_tokens=?,"
            " completion_tokens=?, cost=?, counted_tokens=?, counted_cost=? WHERE id=?"
        )
        await self.write((statement, values), *self._responses(number, responses or {}, model, address))

    async def copy(
        self, responses: Mapping[str, tuple[ChatRequest, ChatResponse]], *, model: str, address: str
    ) -> None:
        """Record responses that another run paid for."""
        await self.write(*self._responses(None, responses, model, address))

    def learned(self, endpoint: str) -> dict[str, bool]:
        """What is known about an endpoint's habits."""
        rows = self._all("SELECT habit, value FROM learned WHERE endpoint=?", (endpoint,))
        return {habit: bool(value) for habit, value in rows}

    async def learn(self, endpoint: str, habits: Mapping[str, bool]) -> None:
        """Keep an endpoint's habits."""
        await self.write(
            *(("INSERT OR REPLACE INTO learned VALUES (?,?,?)", (endpoint, *habit)) for habit in habits.items())
        )

    def close_lost_requests(self) -> int:
        """Mark the requests of processes that ended in their midst; gives how many. Only for the run's one writer.

        Requests in a batch are not lost: they go on at the server. Those that had not got into one were never sent.
        """
        try:
            self._connection.execute("DELETE FROM requests WHERE state='queued'")
            return self._connection.execute("UPDATE requests SET state='lost' WHERE state='open'").rowcount
        except sqlite3.Error as error:
            raise self._fault(error) from None

    def totals(self) -> LedgerTotals:
        """What everything recorded so far comes to."""
        ((requests, failed, lost, in_batches, prompt, cached, completion, cost, unpriced, tokens, usd),) = self._all(
            "SELECT COUNT(*), TOTAL(state='failed'), TOTAL(state='lost'), TOTAL(state IN ('queued', 'batched')),"
            " TOTAL(prompt_tokens), TOTAL(cached_tokens),"
            " TOTAL(completion_tokens), TOTAL(cost), TOTAL(state='done' AND cost IS NULL),"
            " TOTAL(counted_tokens), TOTAL(counted_cost) FROM requests",
        )
        ((responses, from_cache),) = self._all("SELECT COUNT(request_id), TOTAL(request_id IS NULL) FROM calls")
        faults = self._all(
            "SELECT fault, COUNT(*) FROM requests WHERE fault IS NOT NULL GROUP BY fault ORDER BY COUNT(*) DESC, fault"
        )
        return LedgerTotals(
            requests=requests,
            failed_tries=int(failed),
            lost=int(lost),
            in_batches=int(in_batches),
            responses=responses,
            from_cache=int(from_cache),
            prompt_tokens=int(prompt),
            cached_tokens=int(cached),
            completion_tokens=int(completion),
            cost=cost,
            unpriced=int(unpriced),
            counted=Amount(usd, int(tokens), requests),
            faults=dict(faults),
        )

    def calls(self) -> Iterator[dict[str, Any]]:
        """Every response in the order of arrival, as one flat record: what ``taskdef export --to calls`` writes."""
        query = (
            "SELECT c.key, c.purpose, c.model, c.endpoint, p.text AS prompt, c.parameters, c.sample_index, c.response,"
            " c.finish_reason, c.prompt_tokens, c.cached_tokens, c.completion_tokens, c.cost, c.seconds, c.tries,"
            " c.finished_at, c.request_id IS NULL AS from_cache"
            " FROM calls c JOIN prompts p ON p.digest = c.prompt ORDER BY c.finished_at, c.key"
        )
        try:
            cursor = self._connection.execute(query)
            names = [column[0] for column in cursor.description]
            for row in cursor:
                record = dict(zip(names, row, strict=True))
                yield record | {
                    "parameters": json.loads(record["parameters"]),
                    "from_cache": bool(record["from_cache"]),
                }
        except sqlite3.Error as error:
            raise self._fault(error) from None

    def by_purpose(self) -> list[PurposeTotals]:
        """What the responses of each purpose come to, the first used first."""
        return [
            PurposeTotals(*row)
            for row in self._all(
                "SELECT purpose, COUNT(*), TOTAL(request_id IS NULL), SUM(prompt_tokens), SUM(cached_tokens),"
                " SUM(completion_tokens), TOTAL(cost) FILTER (WHERE request_id IS NOT NULL),"
                " TOTAL(cost IS NULL AND request_id IS NOT NULL), AVG(seconds)"
                " FROM calls GROUP BY purpose ORDER BY MIN(finished_at)"
            )
        ]

    def unpriced(self) -> tuple[Usage, int]:
        """What was used while no price was known: tokens that the endpoint counted, and the most that others may be."""
        ((prompt, cached, completion, others),) = self._all(
            "SELECT TOTAL(prompt_tokens), TOTAL(cached_tokens), TOTAL(completion_tokens),"
            " TOTAL(counted_tokens) FILTER (WHERE prompt_tokens IS NULL)"
            " FROM requests WHERE cost IS NULL AND counted_cost=0"
        )
        return Usage(int(prompt), int(completion), int(cached)), int(others)

    def exchanges(self) -> list[tuple[float, float]]:
        """(start, seconds) of every request that was answered: how many were under way at once, and for how long."""
        rows = self._all("SELECT began_at, seconds FROM requests WHERE state='done' ORDER BY began_at")
        return [(began, seconds) for began, seconds in rows]

    def leave_one_file(self) -> None:
        """Take everything into the file itself, so that whoever only reads it later leaves no other files beside it.

        Left as it is while another process reads it.
        """
        self._commit()
        self._connection.execute("PRAGMA busy_timeout=0")
        with contextlib.suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA journal_mode=DELETE")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """One statement of the batches' bookkeeping, committed when this returns."""
        return self._all(statement, values)

    def flush(self) -> None:
        """Commit what is waiting for the end of the event loop's turn."""
        self._commit()

    def close(self) -> None:
        """Commit what is pending and close the file."""
        self._commit()
        self._connection.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _responses(
        self,
        number: int | None,
        responses: Mapping[str, tuple[ChatRequest, ChatResponse]],
        model: str,
        address: str,
    ) -> list[tuple[str, Sequence[Any]]]:
        statements: list[tuple[str, Sequence[Any]]] = []
        known: dict[str, str] = {}
        for key, (request, response) in responses.items():
            name = known.get(request.prompt)
            if name is None:
                name = known[request.prompt] = digest(request.prompt)
                statements.append(("INSERT OR IGNORE INTO prompts VALUES (?,?)", (name, request.prompt)))
            parameters = {
                "temperature": request.temperature,
                "max_tokens": request.max_tokens,
                "schema": request.schema,
            }
            values = (
                *(key, number, request.purpose, model, address, name, json.dumps(parameters), request.index),
                *(response.text, response.finish_reason),
                *(response.prompt_tokens, response.cached_tokens, response.completion_tokens, response.cost),
                *(response.seconds, response.tries, time.time()),
            )
            statements.append((f"INSERT OR IGNORE INTO calls VALUES ({','.join('?' * len(values))})", values))
        return statements

    async def write(self, *statements: tuple[str, Sequence[Any]]) -> None:
        """Commit with everything else that becomes due in this turn of the event loop."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._commit)
        self._pending.append((list(statements), done))
        await done

    def _commit(self) -> None:
        self._is_due = False
        if not self._pending:
            return
        # They stay pending until it is known what became of them: Ctrl-C may come in between.
        failures = self._failures([statements for statements, _ in self._pending])
        pending, self._pending = self._pending, []
        for (_, done), failure in zip(pending, failures, strict=True):
            if not done.done():
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)

    def _failures(self, groups: Sequence[_Statements]) -> list[Exception | None]:
        """Commit all groups in one transaction; for each the error that kept it out."""
        try:
            self._transact(groups)
        except sqlite3.OperationalError as error:  # a full disk, a lock: the same for each alone
            return [self._fault(error)] * len(groups)
        except Exception as error:
            if len(groups) == 1:
                return [self._fault(error) if isinstance(error, sqlite3.Error) else error]
            # What cannot be stored must not take the answers of others along.
            return [self._failures([group])[0] for group in groups]
        return [None] * len(groups)

    def _transact(self, groups: Sequence[_Statements]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for statements in groups:
                for statement, values in statements:
                    self._connection.execute(statement, values)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._fault(error) from None

    def _check_version(self) -> None:
        if self._is_empty() and self.read_only:  # a process has just begun to make it, or was killed then
            self._connection.close()
            self._connection = sqlite3.connect(":memory:")
        if self._is_empty():
            # IMMEDIATE waits for another process that makes the same cache just now.
            self._connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={VERSION}; COMMIT;")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            raise RunError(
                f"{self.path}: a ledger of another version of taskdef (form {version}, this one writes {VERSION})",
                next_step="go on with the version that made it, or start a new run with --name NAME",
            )

    def _is_empty(self) -> bool:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE type='table'").fetchone()
        return bool(version == tables == 0)

    def _fault(self, error: Exception) -> RunError:
        if isinstance(error, OSError):
            return RunError(
                f"{self.path}: cannot be made: {error.strerror}", next_step="name a folder where you may write"
            )
        return RunError(
            f"{self.path or 'ledger in a temporary folder'}: {error}",
            next_step="free space on the disk or correct the file's rights, then repeat the command; "
            "a damaged file can be moved away, and its calls are then paid for again",
        )


def _connect_to_read(place: Path) -> sqlite3.Connection:
    """Readers keep their own file beside the ledger. Where they may not write one, as in another person's run, the
    ledger is read as it stands; nobody writes to it there unless its log lies beside it."""
    address = place.resolve().as_uri()
    connection = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=30)
    try:
        connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if place.with_name(f"{place.name}-wal").exists():
            raise
        connection = sqlite3.connect(f"{address}?immutable=1", uri=True, timeout=30)
    return connection

"""Requests through OpenAI's Batch API: gathered, submitted as one file, waited for, collected; half the price.

What is waiting is submitted when nothing new has come for some seconds, or when a batch is full. Each request gets its
answer when its batch is over; what a batch did not get to is asked again in another one. A process that ends leaves its
batches at the server, and the next one collects them before it asks for the same requests (see batch_records.py).
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskdef.errors import InstructorError
from taskdef.instruct.batch_api import (
    OVER,
    BatchApi,
    LineRefused,
    Pace,
    Refused,
    completion_of,
    input_line,
    output_lines,
)
from taskdef.instruct.batch_records import Batch, BatchRecords
from taskdef.instruct.chat import Reply, Usage
from taskdef.instruct.faults import Fault, FaultKind, one_line
from taskdef.instruct.ledger import Ledger, Sent
from taskdef.instruct.openai_compatible import OpenAIEndpoint

DRAFTS_OF_A_BATCH = 50_000
"""A batch takes hours, so that the drafts of one should fill it."""
_MOST_REFUSALS = 3
"""Batches in a row that the server does not take because of single lines; then it is no matter of single lines."""
_MOST_DOWNLOADS = 3
"""Of files that hold fewer lines than the server counts: a file that is cut on its way would be paid for twice."""
_QUEUE_IS_FULL = "token_limit_exceeded"
_SLICES = 4
_BETWEEN_BREATHS = 1_000


class NeverSent(Exception):
    """A request that an earlier process had put on record for a batch was not run."""


class LeftAtServer(InstructorError):
    """The batch cannot be seen now, but it goes on: its requests are neither answered nor failed."""


@dataclass
class _Line:
    """A request on its way: what is sent for it, and where its completion goes."""

    sent: Sent
    body: dict[str, Any]
    completion: asyncio.Future[Any]


class Batches:
    """One endpoint's batches. One event loop."""

    def __init__(
        self,
        endpoint: OpenAIEndpoint,
        ledger: Ledger,
        *,
        pace: Pace = Pace(),  # noqa: B008
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """``say`` tells a person how far the batches are."""
        self._endpoint = endpoint
        self._records = BatchRecords(ledger, f"{endpoint.model}@{endpoint.address}")
        self._api = BatchApi(endpoint, pace)
        self._pace = pace
        self._say = say
        self._most_requests = pace.most_requests
        self._one_at_a_time = False
        self._refusals = 0
        self._queue: list[_Line] = []
        self._arrivals = 0
        self._lines: dict[int, _Line] = {}
        self._batch_of: dict[int, Batch] = {}
        self._unsettled: dict[str, set[int]] = {}
        self._is_submitting = False
        self._running: set[asyncio.Task[None]] = set()
        self._begun = {batch.mark: batch for batch in self._records.open()}
        for batch in self._begun.values():
            self._hold(batch)

    def begun(self) -> list[Sent]:
        """Requests that earlier processes put into batches and whose answers are still to come."""
        return [sent for batch in self._begun.values() for sent in batch.lines.values()]

    def refuse_to_leave_any(self) -> None:
        """Raise InstructorError where there are some: asked directly, their requests would be paid for twice."""
        if self._begun:
            raise InstructorError(
                f"{len(self.begun()):,} requests of this run are in batches at the server: "
                f"{', '.join(batch.name for batch in self._begun.values())}",
                next_step="repeat the command with --batch to collect them (a batch that is cancelled at the server is "
                "over at once)",
            )

    async def ask(self, sent: Sent) -> Reply:
        """The answer to a new request, hours later. Raises Fault, or InstructorError where no request can succeed.

        A parameter that is refused is left out in the next batch and from then on.
        """
        while True:
            body = self._endpoint.body(sent.request, len(sent.indices))
            line = _Line(sent, body, asyncio.get_running_loop().create_future())
            self._enqueue([line])
            try:
                return self._endpoint.read(await line.completion, sent.request, line.body.get("n", 1))
            except LineRefused as refusal:
                if not self._endpoint.adjust(line.body, refusal):
                    raise self._endpoint.status_fault(refusal) from None
            if self._asks_for_too_many(sent):
                raise _one_by_one()
            await self._records.requeue([sent.number])
            await self._release(self._batch_of[sent.number], sent.number)

    async def answer_to(self, sent: Sent) -> Reply:
        """The answer to one of ``begun``. Raises Fault, InstructorError, or NeverSent."""
        batch = self._batch_of[sent.number]
        if self._begun.pop(batch.mark, None) is not None:
            loop = asyncio.get_running_loop()
            for number, other in batch.lines.items():
                body = self._endpoint.body(other.request, batch.asked[number])
                self._lines[number] = _Line(other, body, loop.create_future())
            self._start(self._guarded(batch, self._take_up(batch)))
        line = self._lines[sent.number]
        try:
            return self._endpoint.read(await line.completion, sent.request, batch.asked[sent.number])
        except LineRefused as refusal:
            if self._endpoint.adjust(line.body, refusal):  # asked again without it, as a new request
                raise Fault(FaultKind.REJECTED, one_line(refusal.message, self._endpoint.key)) from None
            raise self._endpoint.status_fault(refusal) from None

    async def settled(self, sent: Sent) -> None:
        """Tell that the ledger holds how this request ended; a batch of which it holds all is done with."""
        self._lines.pop(sent.number, None)
        batch = self._batch_of.get(sent.number)
        if batch is not None:
            await self._release(batch, sent.number)

    async def forget(self, sent: Sent) -> None:
        """Take a request off the record that was never sent."""
        await self._records.forget([sent.number])
        await self.settled(sent)

    async def close(self) -> None:
        """Leave the batches to the server, and say how to collect them."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._records.forget_queued()
        open_batches = {batch.mark: batch for batch in self._batch_of.values()}
        if open_batches:
            requests = sum(len(numbers) for numbers in self._unsettled.values())
            self._say(
                f"{requests:,} requests go on at the server in {len(open_batches)} batches: "
                f"{', '.join(batch.name for batch in open_batches.values())}; the same command collects their answers "
                "and submits nothing twice"
            )

    def _enqueue(self, lines: Iterable[_Line]) -> None:
        for line in lines:
            self._lines[line.sent.number] = line
            self._queue.append(line)
            self._arrivals += 1
        if not self._is_submitting:
            self._is_submitting = True
            self._start(self._submit())

    async def _submit(self) -> None:
        """Submit what is waiting; an error of this machine reaches those who wait."""
        try:
            await self._submit_queue()
        except Exception as error:
            self._fail([line.sent.number for line in self._queue], error)
            self._queue.clear()
        finally:
            self._is_submitting = False

    async def _submit_queue(self) -> None:
        """Batch by batch, until nothing is waiting."""
        while self._queue:
            await self._until_quiet()
            while self._one_at_a_time and (others := self._running - {asyncio.current_task()}):
                await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            folder = tempfile.TemporaryDirectory(prefix="taskdef-batch-")
            lines = self._take(Path(folder.name) / "input.jsonl")
            if not lines:
                folder.cleanup()
                continue
            batch = Batch(
                {line.sent.number: line.sent for line in lines},
                {line.sent.number: line.body.get("n", 1) for line in lines},
            )
            self._start(self._guarded(batch, self._run(batch, folder)))

    async def _until_quiet(self) -> None:
        """Several looks, so that a long computation between two arrivals does not look like their end."""
        quiet, seen = 0, self._arrivals
        while quiet < _SLICES and len(self._queue) < self._most_requests:
            await asyncio.sleep(self._pace.quiet / _SLICES)
            quiet = quiet + 1 if self._arrivals == seen else 0
            seen = self._arrivals

    def _take(self, path: Path) -> list[_Line]:
        """As many lines as go into one batch, written to its file."""
        taken: list[_Line] = []
        size = 0
        with path.open("wb") as file:
            for line in self._queue[: self._most_requests]:
                if self._asks_for_too_many(line.sent):
                    line.completion.set_exception(_one_by_one())
                    taken.append(line)
                    continue
                # Made anew: what was learned since it was asked for counts.
                line.body = self._endpoint.body(line.sent.request, len(line.sent.indices))
                text = input_line(line.sent.number, line.body)
                if taken and size + len(text) > self._pace.most_bytes:
                    break
                file.write(text)
                size += len(text)
                taken.append(line)
        del self._queue[: len(taken)]
        return [line for line in taken if not line.completion.done()]

    def _asks_for_too_many(self, sent: Sent) -> bool:
        """Whether it was asked for before it was known that the endpoint takes no ``n``."""
        return len(sent.indices) > 1 and not self._endpoint.takes_count()

    async def _run(self, batch: Batch, folder: tempfile.TemporaryDirectory[str]) -> None:
        """From a file to the answers."""
        with folder:
            file_id = await self._api.upload(Path(folder.name) / "input.jsonl", batch.mark)
            batch.began_at = time.time()
            await self._records.add(batch)
            self._hold(batch)
            found = await self._api.create(file_id, batch.mark, batch.began_at)
        batch.batch_id = found.id
        await self._records.created(batch)
        self._say(
            f"batch {batch.name}: {len(batch.lines):,} requests submitted; answers come within a day. It goes on when "
            "this is stopped (Ctrl-C), and the same command collects it"
        )
        await self._collect(batch)

    async def _take_up(self, batch: Batch) -> None:
        """From what an earlier process left on record to the answers."""
        if batch.batch_id is None:
            found = await self._api.find(batch.mark, batch.began_at)
            if found is None and (wait := batch.began_at + self._pace.creation_settles - time.time()) > 0:
                await asyncio.sleep(wait)
                found = await self._api.find(batch.mark, batch.began_at)
            if found is None:
                self._fail(batch.lines, NeverSent())
                return
            batch.batch_id = found.id
            await self._records.created(batch)
        self._say(f"batch {batch.name}: taken up, {len(batch.lines):,} requests")
        await self._collect(batch)

    async def _collect(self, batch: Batch) -> None:
        """Wait until a batch is over, and give each of its requests its completion or its fault."""
        found = await self._until_over(batch)
        if found.status == "failed":
            await self._make_do_without(batch, found)
            return
        self._refusals = 0
        for attempt in range(_MOST_DOWNLOADS):
            if await self._download(batch, found) >= _answered(found):
                break
            if attempt + 1 < _MOST_DOWNLOADS:
                await asyncio.sleep(self._pace.first_poll)
        if lost := sum(not self._lines[number].completion.done() for number in batch.lines if number in self._lines):
            self._say(f"batch {batch.name}: {lost:,} answers are not in the server's files, and are asked for again")
        missing = Fault(FaultKind.NO_COMPLETION, f"{batch.name} ({found.status}) holds no line for it that can be read")
        self._fail(batch.lines, missing)

    async def _download(self, batch: Batch, found: Any) -> int:
        """Give each request what the batch's files hold for it; gives how many lines they hold."""
        read: set[str] = set()
        with tempfile.TemporaryDirectory(prefix="taskdef-batch-") as folder:
            path = Path(folder) / "lines.jsonl"
            for file_id in filter(None, (found.output_file_id, found.error_file_id)):
                if await self._api.download(file_id, path):
                    read |= await self._deliver(batch, path)
        return len(read)

    async def _until_over(self, batch: Batch) -> Any:
        assert batch.batch_id is not None
        wait, told, told_at = self._pace.first_poll, "", 0.0
        while True:
            found = await self._api.look(batch.batch_id)
            counts = found.request_counts
            answered = f", {counts.completed:,} of {counts.total:,} answered" if counts and counts.total else ""
            answered += f", {counts.failed:,} failed" if counts and counts.failed else ""
            text = f"batch {batch.name}: {found.status}{answered}"
            is_news = not told.startswith(f"batch {batch.name}: {found.status}")
            if text != told and (is_news or time.monotonic() - told_at >= self._pace.between_lines):
                told, told_at = text, time.monotonic()
                self._say(text)
            if found.status in OVER:
                return found
            await asyncio.sleep(wait)
            wait = min(1.5 * wait, self._pace.longest_poll)

    async def _deliver(self, batch: Batch, path: Path) -> set[str]:
        read = set()
        for count, (custom_id, record) in enumerate(output_lines(path)):
            read.add(custom_id)
            number = int(custom_id) if custom_id.isascii() and custom_id.isdigit() else -1
            line = self._lines.get(number) if number in batch.lines else None
            if line is not None and not line.completion.done():
                try:
                    line.completion.set_result(completion_of(record, self._endpoint.key))
                except (LineRefused, Fault) as fault:
                    line.completion.set_exception(fault)
            if count % _BETWEEN_BREATHS == 0:
                await asyncio.sleep(0)  # what has come is put on record meanwhile
        return read

    async def _make_do_without(self, batch: Batch, found: Any) -> None:
        """The server took the file and then found something wrong: nothing of it was run."""
        problems = (found.errors.data if found.errors else None) or []
        numbers = list(batch.lines)
        said = "; ".join(
            f"{problem.code}: {problem.message}" + (f" (line {problem.line})" if problem.line else "")
            for problem in problems[:3]
        )
        said = one_line(said or "no reason given", self._endpoint.key)
        if batch.is_earlier:
            self._fail(numbers, NeverSent())
            return
        if any(problem.code == _QUEUE_IS_FULL for problem in problems):
            if len(numbers) == 1:
                busy = Fault(FaultKind.RATE_LIMITED, said, retry_after=self._pace.longest_poll)
                self._fail(numbers, busy)
                return
            self._most_requests, self._one_at_a_time = len(numbers) // 2, True
            self._say(f"batch {batch.name}: {said}; going on with {self._most_requests:,} requests at a time")
            await asyncio.sleep(self._pace.longest_poll)
            await self._queue_again(batch, numbers)
            return
        named = [problem.line for problem in problems if problem.line and 0 < problem.line <= len(numbers)]
        bad = {numbers[position - 1] for position in named}
        self._refusals += 1
        if bad and len(bad) < len(numbers) and self._refusals <= _MOST_REFUSALS:
            self._fail(bad, Fault(FaultKind.REJECTED, said))
            await self._queue_again(batch, [number for number in numbers if number not in bad])
            return
        where = f"openai:{self._endpoint.model}@{self._endpoint.address}"
        self._fail(
            numbers,
            InstructorError(
                f"{where}: the batch {batch.name} of {len(numbers):,} requests was refused: {said}",
                next_step="correct the model's name or instruct.* with --set, or leave --batch out",
            ),
        )

    async def _queue_again(self, batch: Batch, numbers: list[int]) -> None:
        await self._records.requeue(numbers)
        lines = [self._lines[number] for number in numbers]
        for number in numbers:
            await self._release(batch, number)
        self._enqueue(lines)

    async def _guarded(self, batch: Batch, work: Coroutine[Any, Any, None]) -> None:
        """Whatever goes wrong reaches those who wait for the batch's answers."""
        try:
            await work
        except Refused as error:
            self._fail(batch.lines, error if batch.batch_id is None else _left(error))
        except InstructorError as error:
            self._fail(batch.lines, _left(error) if batch.mark in self._unsettled else error)
        except Exception as error:
            self._fail(batch.lines, error)

    def _fail(self, numbers: Iterable[int], error: Exception) -> None:
        """For those that have no answer yet."""
        for number in numbers:
            line = self._lines.get(number)
            if line is not None and not line.completion.done():
                line.completion.set_exception(error)

    def _hold(self, batch: Batch) -> None:
        self._unsettled[batch.mark] = set(batch.lines)
        self._batch_of |= dict.fromkeys(batch.lines, batch)

    async def _release(self, batch: Batch, number: int) -> None:
        """This request is no matter of this batch any more."""
        self._batch_of.pop(number, None)
        unsettled = self._unsettled.get(batch.mark, set())
        unsettled.discard(number)
        if not unsettled and self._unsettled.pop(batch.mark, None) is not None:
            await self._records.close(batch)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)

        def forget(done: asyncio.Task[None]) -> None:
            self._running.discard(done)
            if not done.cancelled():
                done.exception()  # Ctrl-C in its midst, which the whole process has heard of

        task.add_done_callback(forget)


def _answered(found: Any) -> int:
    """How many lines the files of a batch should hold at least, as far as the server says."""
    counts = found.request_counts
    return (counts.completed or 0) + (counts.failed or 0) if counts else 0


def _one_by_one() -> Fault:
    """Of a request that was not run: its responses are asked for again, all in the next batch."""
    return Fault(FaultKind.WRONG_COUNT, "the endpoint takes no n: asked for one by one", usage=Usage(0, 0))


def _left(error: InstructorError) -> LeftAtServer:
    return LeftAtServer(error.message, next_step=error.next_step)

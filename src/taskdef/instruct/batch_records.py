"""Which requests are in which batch: what the ledger keeps, so that a batch outlives the process that submitted it.

A batch has a row before it is created, with a mark of its own that goes along as the batch's metadata, and the lines of
its file. Where the process ends before the server's id is on record, the next one finds the batch by its mark.

    creating     it may or may not have come to the server
    submitted    its id is known, answers are to come
    over         every line has been settled, or waits for another batch
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskdef.config import digest
from taskdef.instruct.budget import Amount
from taskdef.instruct.chat import ChatRequest
from taskdef.instruct.ledger import Ledger, Sent

_OPEN = "state IN ('creating', 'submitted')"
_CLOSE = "UPDATE batches SET state='over', lines=json_set(lines, '$.lines', json_array()) WHERE mark=?"


@dataclass
class Batch:
    """One batch, in the making or at the server."""

    lines: dict[int, Sent]
    """By number, which is the line's ``custom_id``."""
    asked: dict[int, int]
    """Responses that a line asks for in one completion (its ``n``)."""
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    batch_id: str | None = None
    began_at: float = field(default_factory=time.time)
    is_earlier: bool = False
    """An earlier process submitted it."""

    @property
    def name(self) -> str:
        """For messages."""
        return self.batch_id or f"{self.mark} (its metadata; the id is not known yet)"


class BatchRecords:
    """The batches of one endpoint in a ledger."""

    def __init__(self, ledger: Ledger, endpoint: str) -> None:
        """``endpoint``: model and address."""
        self._ledger = ledger
        self._endpoint = endpoint

    async def add(self, batch: Batch) -> None:
        """Put a batch on record that is about to be created; its requests are in it from then on."""
        texts = {digest(sent.request.prompt): sent.request.prompt for sent in batch.lines.values()}
        lines = [_to_json(sent, batch.asked[number]) for number, sent in batch.lines.items()]
        held = json.dumps({"endpoint": self._endpoint, "lines": lines}, ensure_ascii=False)
        await self._ledger.write(
            *(("INSERT OR IGNORE INTO prompts VALUES (?,?)", item) for item in texts.items()),
            ("INSERT INTO batches VALUES (?, NULL, 'creating', ?, ?)", (batch.mark, held, batch.began_at)),
            _move(batch.lines, "batched"),
        )

    async def created(self, batch: Batch) -> None:
        """The server has taken it and named it."""
        await self._ledger.write(
            ("UPDATE batches SET state='submitted', batch_id=? WHERE mark=?", (batch.batch_id, batch.mark))
        )

    async def close(self, batch: Batch) -> None:
        """Nothing more is to come of it."""
        await self._ledger.write((_CLOSE, (batch.mark,)))

    async def requeue(self, numbers: Iterable[int]) -> None:
        """These wait for another batch."""
        await self._ledger.write(_move(numbers, "queued"))

    async def forget(self, numbers: Iterable[int]) -> None:
        """These never came to the server."""
        await self._ledger.write(
            ("DELETE FROM requests WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(numbers)),))
        )

    def forget_queued(self) -> None:
        """Those that have not got into a batch were never sent."""
        self._ledger.execute("DELETE FROM requests WHERE state='queued'")

    def open(self) -> list[Batch]:
        """Batches of this endpoint with answers to come, with the lines that have not been settled yet.

        Those of which a killed process had settled every line are closed on the way.
        """
        batches = []
        rows = self._ledger.execute(
            "SELECT mark, batch_id, began_at, lines FROM batches"
            f" WHERE {_OPEN} AND json_extract(lines, '$.endpoint')=? ORDER BY began_at, mark",
            (self._endpoint,),
        )
        for mark, batch_id, began_at, held in rows:
            batch = Batch({}, {}, mark, batch_id, began_at, is_earlier=True)
            lines = {line["number"]: line for line in json.loads(held)["lines"]}
            most = self._set_aside(lines)
            texts = self._texts({line["prompt"] for line in lines.values()})
            for number, line in lines.items():
                if number in most:
                    request = ChatRequest(**{**line["request"], "prompt": texts[line["prompt"]]})
                    batch.lines[number] = Sent(number, request, tuple(line["indices"]), most[number])
                    batch.asked[number] = line["asked"]
            if batch.lines:
                batches.append(batch)
            else:
                self._ledger.execute(_CLOSE, (mark,))
        return batches

    def _set_aside(self, numbers: Iterable[int]) -> dict[int, Amount]:
        """What is set aside for each of these requests that is in a batch still."""
        rows = self._ledger.execute(
            "SELECT id, counted_cost, counted_tokens FROM requests"
            " WHERE state='batched' AND id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(numbers)),),
        )
        return {number: Amount(usd, tokens, calls=1) for number, usd, tokens in rows}

    def _texts(self, names: Iterable[str]) -> dict[str, str]:
        rows = self._ledger.execute(
            "SELECT digest, text FROM prompts WHERE digest IN (SELECT value FROM json_each(?))",
            (json.dumps(list(names)),),
        )
        return dict(rows)


def total(sent: Iterable[Sent]) -> Amount:
    """What is set aside for these."""
    return sum((each.most for each in sent), Amount())


def _move(numbers: Iterable[int], state: str) -> tuple[str, Sequence[Any]]:
    return (
        "UPDATE requests SET state=? WHERE id IN (SELECT value FROM json_each(?))",
        (state, json.dumps(list(numbers))),
    )


def _to_json(sent: Sent, asked: int) -> Mapping[str, Any]:
    request = sent.request
    fields = {
        "purpose": request.purpose,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "schema": request.schema,
        "index": request.index,
    }
    return {
        "number": sent.number,
        "indices": sent.indices,
        "asked": asked,
        "prompt": digest(request.prompt),
        "request": fields,
    }

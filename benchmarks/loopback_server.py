"""A chat completions server on loopback with a fixed latency and a fixed number of slots, to measure clients against.

    python benchmarks/loopback_server.py [--latency 0.2] [--slots 64] [--port 0] [--keep-prompts FILE]

Every request takes one slot for exactly the latency; a request that finds none free waits, first come first served,
for the one that is free next. So no client can be faster than ``bound_seconds``: calls / slots * latency. A slot goes
to the next waiting request at the very moment it becomes free, whenever this process gets to writing the answer, so
that what is lost is lost by the client. A client that hangs up still fills its slot to the end.

Speaks HTTP/1.1 with keep-alive through asyncio alone, at some 0.05 ms of CPU a request, so that it does not compete
with the client that is measured. Prints one JSON line with its port when it listens, and ends when its standard input
does. Besides ``POST /v1/chat/completions`` (one choice, no streaming) it answers ``GET /v1/models``, ``GET /stats``
and ``POST /reset``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import heapq
import json
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

ANSWER = "Take what is asked for step by step, and add up what each step gives. " * 6 + "The answer is 42."
_MOST_BYTES = 4 << 20


def bound_seconds(calls: int, *, slots: int, latency: float) -> float:
    """The shortest time in which any client can have ``calls`` answers."""
    return calls / slots * latency


@dataclass
class Counts:
    """What the server saw since the last reset."""

    calls: int = 0
    """Completions that were answered."""
    abandoned: int = 0
    """Completions whose client had hung up by then."""
    refused: int = 0
    """Requests answered with a 4xx."""
    connections: int = 0
    in_flight: int = 0
    """Completions received and not answered, those that wait for a slot included."""
    most_in_flight: int = 0
    first_arrival: float = 0.0
    last_answer: float = 0.0
    prompts: set[int] = field(default_factory=set)
    """64 bits of SHA-256 of each last message: whether everything was asked, and the same by every client."""

    def shown(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "abandoned": self.abandoned,
            "refused": self.refused,
            "connections": self.connections,
            "most_in_flight": self.most_in_flight,
            "distinct_prompts": len(self.prompts),
            "prompts": f"{sum(self.prompts) % (1 << 64):016x}",
            "seconds": self.last_answer - self.first_arrival,
            "cpu_seconds": time.process_time(),
        }


class SlotServer:
    """The slots and the answers that are due."""

    def __init__(self, *, latency: float, slots: int, kept_prompts: TextIO | None = None) -> None:
        self.latency = latency
        self._kept_prompts = kept_prompts
        self.counts = Counts()
        self._free_at = [0.0] * slots
        self._due: deque[tuple[float, asyncio.Transport, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def accept(self, transport: asyncio.Transport, body: bytes) -> None:
        """Take a completion's request: refuse it at once, or answer it when its slot is through with it."""
        now = time.monotonic()
        try:
            request = json.loads(body)
            prompt = _text(request["messages"][-1]["content"])
            if request.get("stream") or request.get("n", 1) not in (1, None):
                raise ValueError("one choice a request, without streaming")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self.refuse(transport, str(error))
            return
        counts = self.counts
        counts.in_flight += 1
        counts.most_in_flight = max(counts.most_in_flight, counts.in_flight)
        counts.first_arrival = counts.first_arrival or now
        counts.prompts.add(int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8]))
        if self._kept_prompts is not None:
            print(json.dumps(prompt), file=self._kept_prompts)
        due = max(now, self._free_at[0]) + self.latency
        heapq.heapreplace(self._free_at, due)  # the latency is the same for all, so answers fall due in arrival order
        self._due.append((due, transport, _completion(request.get("model"), len(body))))
        if self._timer is None:
            self._answer_at(due)

    def refuse(self, transport: asyncio.Transport, reason: str) -> None:
        self.counts.refused += 1
        transport.write(_http(400, {"error": {"message": reason, "type": "invalid_request_error"}}))

    def control(self, transport: asyncio.Transport, line: str) -> None:
        """Answer anything but a completion."""
        if line == "GET /stats":
            transport.write(_http(200, self.counts.shown()))
        elif line == "POST /reset":
            self.counts = Counts(in_flight=self.counts.in_flight)
            transport.write(_http(200, {}))
        elif line == "GET /v1/models":
            transport.write(_http(200, {"object": "list", "data": [{"id": "loopback", "object": "model"}]}))
        else:
            self.counts.refused += 1
            transport.write(_http(404, {"error": {"message": f"no such page: {line}"}}))

    def _answer(self) -> None:
        counts = self.counts
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, transport, response = self._due.popleft()
            counts.in_flight -= 1
            if transport.is_closing():
                counts.abandoned += 1
                continue
            transport.write(response)
            counts.calls += 1
            counts.last_answer = now
        self._timer = None
        if self._due:
            self._answer_at(self._due[0][0])

    def _answer_at(self, due: float) -> None:
        """Set the one timer: asyncio's clock is the same monotonic one."""
        self._timer = asyncio.get_running_loop().call_at(due, self._answer)


class Connection(asyncio.Protocol):
    """One client's connection: cuts the stream into requests."""

    def __init__(self, server: SlotServer) -> None:
        self._server = server
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.counts.connections += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            line, *headers = self._buffer[:end].decode("latin-1").split("\r\n")
            given = dict(header.lower().split(":", 1) for header in headers if ":" in header)
            length = given.get("content-length", "0").strip()
            if "transfer-encoding" in given or not length.isdigit() or int(length) > _MOST_BYTES:
                self._server.refuse(self._transport, "the body's length must be given, and be at most 4 MiB")
                self._transport.close()
                return
            if len(self._buffer) < end + 4 + int(length):
                return
            body = self._buffer[end + 4 : end + 4 + int(length)]
            self._buffer = self._buffer[end + 4 + int(length) :]
            asked = line.rpartition(" ")[0]
            if asked == "POST /v1/chat/completions":
                self._server.accept(self._transport, body)
            else:
                self._server.control(self._transport, asked)


def _text(content: Any) -> str:
    """A message's text, which some clients send as a list of parts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _http(status: int, value: dict[str, Any]) -> bytes:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Refused'}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def _completion(model: Any, request_bytes: int) -> bytes:
    prompt, completion = request_bytes // 4, len(ANSWER) // 4  # about what a tokenizer gives
    message = {"role": "assistant", "content": ANSWER}
    return _http(
        200,
        {
            "id": "chatcmpl-loopback",
            "object": "chat.completion",
            "created": 1700000000,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
        },
    )


async def serve(server: SlotServer, port: int) -> None:
    """Serve on 127.0.0.1 until standard input ends."""
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=4096)
    print(json.dumps({"port": listener.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds a request fills its slot")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--keep-prompts", type=Path, help="JSONL that every prompt is written to")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as files:
        kept = files.enter_context(arguments.keep_prompts.open("w")) if arguments.keep_prompts else None
        server = SlotServer(latency=arguments.latency, slots=arguments.slots, kept_prompts=kept)
        asyncio.run(serve(server, arguments.port))


if __name__ == "__main__":
    main()

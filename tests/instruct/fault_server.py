"""A real HTTP server on loopback that teaches sums, goes wrong as told, and counts what it would bill."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

# How it goes wrong -> what taskdef should call it.
FAULTS = {
    "429 with Retry-After": "rate_limited",
    "429": "rate_limited",
    "500": "server_error",
    "503": "unavailable",
    "hang": "timed_out",
    "cut stream": "connection_lost",
    "half a JSON body": "not_json",
    "HTML": "not_json",
    "empty choice list": "no_choice",
    "refusal": "refused",
    "wrong n": "wrong_count",
    "unicode rubbish": "not_utf8",
    "5 MB answer": "too_large",
}
_FREE = {"429 with Retry-After", "429", "500", "503", "HTML"}
_REASONS = {200: "OK", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


@dataclass
class Teacher:
    """What it did; read it when the client is done."""

    fault_share: float = 0.0
    latency: float = 0.0
    takes_n: bool = True
    seed: int = 0
    url: str = ""
    prompts: Counter[str] = field(default_factory=Counter)
    """Responses begun, by prompt."""
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    """Tokens that it would bill: also those of answers that never arrived."""
    in_flight: int = 0
    most_in_flight: int = 0
    authorizations: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._kinds = list(FAULTS)

    def next_fault(self, asked: int) -> str | None:
        if self._random.random() >= self.fault_share:
            return None
        kind = self._kinds[sum(self.faults.values()) % len(self._kinds)]
        self.faults[kind] += 1
        return kind


def teach(prompt: str) -> str:
    """A draft about the number in a passage; the sum asked for in a question. Every third vote is against the draft."""
    about = re.search(r"Number (\d+) is here", prompt)
    if about:
        n = int(about[1])
        return json.dumps({"input": f"What is {n} + {n}?", "output": f"#### {2 * n}"})
    question = re.search(r"What is (\d+) \+", prompt)
    if question:
        n = int(question[1])
        return f"#### {2 * n + (n % 3 == 0)}"
    return '["sums", "numbers"]'


@contextmanager
def teaching(**settings: Any) -> Iterator[Teacher]:
    """Serve in a thread of its own."""
    teacher = Teacher(**settings)
    ready = threading.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = await asyncio.start_server(lambda r, w: _connection(teacher, r, w), "127.0.0.1", 0, backlog=1024)
        teacher.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready.set()
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve_forever()

    def work() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    task = loop.create_task(serve())
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield teacher
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(timeout=5)


async def _connection(teacher: Teacher, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"content-length: *(\d+)", head, re.IGNORECASE)
            body = json.loads(await reader.readexactly(int(length[1]) if length else 0))
            authorization = re.search(r"authorization: *(.*)\r", head, re.IGNORECASE)
            teacher.authorizations.add(authorization[1] if authorization else "")
            teacher.requests += 1
            teacher.in_flight += 1
            teacher.most_in_flight = max(teacher.most_in_flight, teacher.in_flight)
            try:
                if not await _respond(teacher, body, writer):
                    break
            finally:
                teacher.in_flight -= 1
    writer.close()


async def _respond(teacher: Teacher, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
    """Answer one request; False where the connection is to be closed."""
    prompt = body["messages"][0]["content"]
    asked = body.get("n", 1) if teacher.takes_n else 1
    fault = teacher.next_fault(asked)
    if fault not in _FREE:
        teacher.prompts[prompt] += asked
    text = teach(prompt)
    count = asked if fault != "wrong n" else (asked - 1 if asked > 2 else asked + 2)
    usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": count * (len(text) // 4 + 1)}
    if fault not in _FREE:
        teacher.tokens += usage["prompt_tokens"] + usage["completion_tokens"]
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    answer: dict[str, Any] = {"object": "chat.completion", "choices": [choice] * count, "usage": usage}
    await asyncio.sleep(teacher.latency)
    status, headers, cut = 200, "", False
    content = json.dumps(answer).encode()
    if fault == "hang":
        await asyncio.sleep(30)
        return False
    if fault in ("429", "429 with Retry-After", "500", "503"):
        status = int(fault[:3])
        headers = "Retry-After: 0.05\r\n" if "Retry" in fault else ""
        content = json.dumps({"error": {"message": f"{fault}, please wait"}}).encode()
    elif fault == "cut stream":
        cut = True
    elif fault == "half a JSON body":
        content = content[: len(content) // 2]
    elif fault == "HTML":
        content = b"<html><body>Bad gateway</body></html>"
    elif fault == "empty choice list":
        content = json.dumps(answer | {"choices": []}).encode()
    elif fault == "refusal":
        refused = {"finish_reason": "stop", "message": {"content": None, "refusal": "I would rather not"}}
        content = json.dumps(answer | {"choices": [refused]}).encode()
    elif fault == "unicode rubbish":
        content = content.replace(b"####", b"\xff\xfe\xc3\x28").replace(b"input", b"\xf0\x28\x8c\x28", 1)
        content = content.replace(b"sums", b"\xe2\x28\xa1")
    elif fault == "5 MB answer":
        content = json.dumps(answer | {"choices": [choice | {"message": {"content": "x" * 5_000_000}}]}).encode()
    writer.write(
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n{headers}"
        f"Content-Length: {len(content)}\r\n\r\n".encode()
        + (content[: len(content) // 2] if cut else content)
    )
    await writer.drain()
    return not cut

"""A small real HTTP server that answers chat completions as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server sends."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def completion(text: str | None, **message: Any) -> Reply:
    return Reply(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
    )


def fault(status: int, message: str = "no", **rest: Any) -> Reply:
    headers = rest.pop("headers", {})
    return Reply({"error": {"message": message, **rest}}, status, headers)


@dataclass
class ChatServer:
    """Where it listens and what it was asked."""

    url: str
    requests: list[dict[str, Any]]
    authorizations: list[str] = field(default_factory=list)
    """The Authorization header of each request."""
    most_at_once: int = 0


@contextmanager
def chat_server(answer: Callable[[dict[str, Any], int], Reply]) -> Iterator[ChatServer]:
    """Serve ``answer(request body, number of the request from 0)`` on loopback."""
    lock = threading.Lock()
    inside = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal inside
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(served.requests)
                served.requests.append(body)
                served.authorizations.append(self.headers.get("Authorization", ""))
                inside += 1
                served.most_at_once = max(served.most_at_once, inside)
            reply = answer(body, number)
            time.sleep(reply.delay)
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            with lock:
                inside -= 1
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = ChatServer(f"http://127.0.0.1:{server.server_port}/v1", [])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()

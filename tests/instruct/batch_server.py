"""A real HTTP server on loopback that speaks the documented Batch API of OpenAI: files, batches, their states."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from chat_server import Reply

Answer = Callable[[dict[str, Any]], Reply]


@dataclass
class BatchServer:
    """What it holds, and how it behaves. A batch goes on by one state with each look at it."""

    url: str
    answer: Answer
    """The completion of one request's body, or its refusal; ``delay`` is not waited for."""
    end: Callable[[int], str] = lambda number: "completed"
    """The last state of the batch with this number (from 0)."""
    share: float = 1.0
    """Of the requests, those that an expired or cancelled batch got to."""
    problems: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda lines: []
    """What the validation of a file finds beside malformed lines: batch errors."""
    trouble: Callable[[str, str, int], Reply | None] = lambda method, path, number: None
    """A reply in place of the right one, by method, path and the number of such requests so far; its ``delay`` holds
    for the right one too where ``status`` is 200."""
    loses_first_reply: int | None = None
    """The first batch is created, but the reply is this status; 200 stands for a connection that breaks."""
    looks: int = 0
    """More looks in which a batch is in progress."""
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The body of every request that was run, one for each time."""
    authorizations: set[str] = field(default_factory=set)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    """Of HTTP requests, by method and path, ids replaced by *."""

    ahead: dict[str, list[str]] = field(default_factory=dict)
    """The states that a batch has still to go through."""

    def finish_soon(self) -> None:
        """Let every batch end at the next look, and new ones without waiting."""
        self.looks = 0
        for states in self.ahead.values():
            del states[:-1]

    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.asked]


def _errors(lines: list[bytes], endpoint: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The requests of a file, and what is wrong with them."""
    records, errors, seen = [], [], set()
    for position, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            errors.append({"code": "invalid_json_line", "message": "This line is not JSON.", "line": position})
            continue
        records.append(record)
        if set(record) != {"custom_id", "method", "url", "body"} or record["method"] != "POST":
            errors.append({"code": "invalid_request", "message": "Fields are wrong.", "line": position})
        if record["url"] != endpoint:
            errors.append({"code": "invalid_url", "message": "The URL is not the batch's endpoint.", "line": position})
        if record["custom_id"] in seen:
            errors.append({"code": "duplicate_custom_id", "message": "Twice the same custom_id.", "line": position})
        if record["body"]["model"] != records[0]["body"]["model"]:
            errors.append({"code": "mismatched_model", "message": "One model a file.", "line": position})
        seen.add(record["custom_id"])
    return records, errors


@contextmanager
def batch_server(answer: Answer, **settings: Any) -> Iterator[BatchServer]:
    """Serve on loopback; ``settings`` are those of BatchServer."""
    lock = threading.Lock()
    shuffle = random.Random(5).shuffle

    def create(body: dict[str, Any]) -> Reply:
        if body.get("completion_window") != "24h" or body.get("input_file_id") not in served.files:
            return _refusal(400, "no such file, or not 24h")
        number = len(served.batches)
        lines = served.files[body["input_file_id"]].splitlines()
        records, errors = _errors(lines, body["endpoint"])
        errors += served.problems(records)
        batch = {
            "id": f"batch_{number}",
            "object": "batch",
            "endpoint": body["endpoint"],
            "errors": None,
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(time.time()),
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": body.get("metadata"),
        }
        served.batches[batch["id"]] = batch
        states = ["in_progress"] * (1 + served.looks) + ["finalizing", served.end(number)]
        served.ahead[batch["id"]] = ["failed"] if errors else states
        contents[batch["id"]] = (records, errors)
        return Reply(batch)

    def look(batch: dict[str, Any]) -> None:
        """Go on by one state."""
        states, (records, errors) = served.ahead[batch["id"]], contents[batch["id"]]
        if not states:
            return
        batch["status"] = states.pop(0)
        if batch["status"] == "failed":
            batch["errors"] = {"object": "list", "data": errors}
        else:
            batch["request_counts"]["total"] = len(records)
            if not states:
                finish(batch, records)

    def finish(batch: dict[str, Any], records: list[dict[str, Any]]) -> None:
        reached = len(records) if batch["status"] == "completed" else int(served.share * len(records))
        code = {"expired": "batch_expired", "cancelled": "batch_cancelled"}.get(batch["status"])
        good, bad = [], []
        for position, record in enumerate(records):
            line = {"id": f"batch_req_{position}", "custom_id": record["custom_id"], "response": None, "error": None}
            if position < reached:
                reply = served.answer(record["body"])
                served.asked.append(record["body"])
                line["response"] = {"status_code": reply.status, "request_id": str(position), "body": reply.body}
                (good if reply.status == 200 else bad).append(line)
            else:
                bad.append(line | {"error": {"code": code, "message": "This request was not run."}})
        for name, lines in (("output_file_id", good), ("error_file_id", bad)):
            shuffle(lines)
            if lines:
                batch[name] = f"file-{name}-{batch['id']}"
                served.files[batch[name]] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        batch["request_counts"] |= {"completed": len(good), "failed": len(bad)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"] or 0)) if self._is_sized() else self._chunks()
            self._reply("POST", content)

        def do_GET(self) -> None:
            self._reply("GET", b"")

        def _is_sized(self) -> bool:
            return "chunked" not in self.headers.get("Transfer-Encoding", "")

        def _chunks(self) -> bytes:
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _reply(self, method: str, content: bytes) -> None:
            path = urlsplit(self.path).path.removeprefix("/v1")
            kind = re.sub(r"(?<=/)(batch_|file-)[^/]+", "*", path)
            with lock:
                served.authorizations.add(self.headers.get("Authorization", ""))
                number = served.counts[method, kind] = served.counts.get((method, kind), -1) + 1
            trouble = served.trouble(method, kind, number)
            if trouble is not None:
                time.sleep(trouble.delay)
            if trouble is not None and trouble.status != 200:
                reply = trouble
            else:
                with lock:
                    reply = self._right(method, path, content)
            if (method, path, number) == ("POST", "/batches", 0) and served.loses_first_reply is not None:
                if served.loses_first_reply == 200:
                    self.close_connection = True
                    return
                reply = _refusal(served.loses_first_reply, "lost")
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _right(self, method: str, path: str, content: bytes) -> Reply:
            batch = served.batches.get(path.split("/")[2]) if path.startswith("/batches/") else None
            if (method, path) == ("POST", "/files"):
                return upload(self.headers["Content-Type"], content)
            if (method, path) == ("POST", "/batches"):
                return create(json.loads(content))
            if (method, path) == ("GET", "/batches"):
                return list_batches(parse_qs(urlsplit(self.path).query))
            if batch is not None and path.endswith("/cancel"):
                if served.ahead[batch["id"]]:
                    batch["status"] = "cancelling"
                    served.ahead[batch["id"]] = ["cancelled"]
                return Reply(batch)
            if batch is not None:
                look(batch)
                return Reply(batch)
            if path.startswith("/files/") and path.endswith("/content") and path.split("/")[2] in served.files:
                return Reply(served.files[path.split("/")[2]], headers={"Content-Type": "application/octet-stream"})
            return _refusal(404, f"No such thing: {path}")

        def log_message(self, *_: Any) -> None: ...

    def upload(kind: str, content: bytes) -> Reply:
        message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + content)
        parts = {part.get_param("name", header="Content-Disposition"): part for part in message.get_payload()}
        if parts["purpose"].get_payload() != "batch":
            return _refusal(400, "the purpose is not batch")
        name = f"file-{len(served.files)}"
        served.files[name] = parts["file"].get_payload(decode=True)
        size = len(served.files[name])
        return Reply(
            {"id": name, "object": "file", "bytes": size, "created_at": 0, "filename": "x", "purpose": "batch"}
            | {"status": "processed"}
        )

    def list_batches(query: dict[str, list[str]]) -> Reply:
        newest_first = list(reversed(served.batches.values()))
        if "after" in query:
            ids = [batch["id"] for batch in newest_first]
            newest_first = newest_first[ids.index(query["after"][0]) + 1 :]
        limit = min(int(query.get("limit", ["20"])[0]), 2)  # pages of two, so that there are several
        page = newest_first[:limit]
        return Reply({"object": "list", "data": page, "has_more": len(newest_first) > limit})

    contents: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {}

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that was killed is no error here."""

    server = Server(("127.0.0.1", 0), Handler)
    served = BatchServer(f"http://127.0.0.1:{server.server_port}/v1", answer, **settings)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


def _refusal(status: int, message: str, **rest: Any) -> Reply:
    return Reply({"error": {"message": message, "type": "invalid_request_error", **rest}}, status)

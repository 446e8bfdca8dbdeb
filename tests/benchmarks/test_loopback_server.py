"""The server that the speed benchmark is measured against keeps to its slots, and counts what it was asked."""

import asyncio
import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "loopback_server.py"


@pytest.fixture(scope="module")
def loopback() -> ModuleType:
    spec = importlib.util.spec_from_file_location("loopback_server", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their annotations up there
    spec.loader.exec_module(module)
    return module


def talk(loopback: ModuleType, bodies: list[bytes], *, slots: int, latency: float) -> tuple[list[Any], dict[str, Any]]:
    """Send each body on a connection of its own, all at once: (status, seconds) of each, and what the server saw."""

    async def send(port: int, body: bytes, path: str = "POST /v1/chat/completions") -> tuple[int, float, Any]:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # In two pieces, as a network may cut it.
        writer.write(f"{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:3])
        await asyncio.sleep(0)
        writer.write(body[3:])
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        answer = json.loads(await reader.readexactly(length))
        writer.close()
        return int(head.split()[1]), time.monotonic() - began, answer

    async def scene() -> tuple[list[Any], dict[str, Any]]:
        server = loopback.SlotServer(latency=latency, slots=slots)
        listener = await asyncio.get_running_loop().create_server(lambda: loopback.Connection(server), "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        answers = await asyncio.gather(*(send(port, body) for body in bodies))
        _, _, saw = await send(port, b"", "GET /stats")
        listener.close()
        return answers, saw

    return asyncio.run(scene())


def request(content: Any, **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": content}], **more}).encode()


def test_the_bound_is_calls_by_slots_times_latency(loopback: ModuleType) -> None:
    assert loopback.bound_seconds(2_000, slots=64, latency=0.2) == pytest.approx(6.25)
    assert loopback.bound_seconds(10_000, slots=64, latency=0.2) == pytest.approx(31.25)


def test_requests_that_find_no_slot_wait_for_one(loopback: ModuleType) -> None:
    answers, saw = talk(loopback, [request(str(number)) for number in range(5)], slots=2, latency=0.05)
    assert [status for status, _, _ in answers] == [200] * 5
    seconds = sorted(seconds for _, seconds, _ in answers)
    assert min(seconds) >= 0.05
    assert max(seconds) >= 0.15  # 5 requests in 2 slots: three rounds
    assert sum(value >= 0.1 for value in seconds) == 3
    assert (saw["calls"], saw["most_in_flight"], saw["distinct_prompts"]) == (5, 5, 5)


def test_the_same_prompts_are_known_again_in_any_order_and_form(loopback: ModuleType) -> None:
    sums = [
        talk(loopback, bodies, slots=8, latency=0.0)[1]["prompts"]
        for bodies in (
            [request("one"), request("two")],
            [request([{"type": "text", "text": "two"}]), request("one")],
            [request("one"), request("three")],
        )
    ]
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.parametrize("body", [request("x", n=2), request("x", stream=True), b"{}", b"no JSON", b"[]"])
def test_what_it_does_not_do_is_refused_and_counted(loopback: ModuleType, body: bytes) -> None:
    answers, saw = talk(loopback, [body], slots=1, latency=0.0)
    assert answers[0][0] == 400
    assert answers[0][2]["error"]["message"]
    assert (saw["calls"], saw["refused"]) == (0, 1)

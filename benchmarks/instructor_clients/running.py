"""Runs one client's script against a fresh loopback server, and checks that everything was asked and answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructor_clients.environments import closed_environment, environment_python, shipped_tokenizers
from loopback_server import bound_seconds

SCRIPTS = Path(__file__).parent
_LONGEST = 3600


@dataclass(frozen=True)
class Client:
    """One way to ask, and what runs it."""

    name: str
    script: str
    in_flight: int | None = None
    """None: the script's own setting."""
    package: str | None = None
    """The one it is an environment for; None runs in taskdef's."""


@dataclass(frozen=True)
class Measurement:
    """One client's run against a fresh server."""

    client: str
    version: str
    setting: str
    calls: int
    seconds: float
    """From the client's first act to the last answer in hand."""
    share: float
    """Of the server's bound."""
    server_seconds: float
    """From the first arrival to the last answer, as the server saw it."""
    server_share: float
    cpu_ms: float
    """CPU time of the client a call, in milliseconds."""
    peak_mib: float
    most_in_flight: int
    prompts: str
    """What the server was asked, added up."""


@contextmanager
def server(latency: float, slots: int, *, keep_prompts: Path | None = None) -> Iterator[str]:
    """The loopback server in a process of its own; gives its address."""
    command = [
        sys.executable,
        str(SCRIPTS.parent / "loopback_server.py"),
        "--latency",
        str(latency),
        "--slots",
        str(slots),
    ]
    command += ["--keep-prompts", str(keep_prompts)] if keep_prompts else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.stdin.close()  # upon which it ends by itself
            process.wait(timeout=30)


def measure(client: Client, texts: Path, calls: int, peers: Path, *, latency: float, slots: int) -> Measurement:
    """Run a client once. Raises SystemExit where it fails, or where the server was not asked everything once."""
    python = environment_python(peers, client.package) if client.package else Path(sys.executable)
    with tempfile.TemporaryDirectory(prefix="instructor-speed-") as folder, server(latency, slots) as url:
        work = Path(folder)
        command = [str(python), str(SCRIPTS / client.script), f"{url}/v1", str(texts), str(calls)]
        command += [folder, *(["--in-flight", str(client.in_flight)] if client.in_flight else [])]
        environment = closed_environment(work, shipped_tokenizers(peers)) if client.package else dict(os.environ)
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, env=environment, cwd=work)
        if done.returncode != 0:
            raise SystemExit(f"{client.name}: {client.script} failed\n{done.stderr[-3000:]}")
        said = json.loads(done.stdout.splitlines()[-1])
        saw = ask_server(f"{url}/stats")
    if not said["answered"] == saw["calls"] == saw["distinct_prompts"] == calls:
        raise SystemExit(
            f"{client.name}: {calls} prompts to ask, but {saw['distinct_prompts']} different ones came, "
            f"{saw['calls']} were answered and {said['answered']} answers arrived"
        )
    bound = bound_seconds(calls, slots=slots, latency=latency)
    return Measurement(
        client=client.name,
        version=said["version"],
        setting=said["setting"],
        calls=calls,
        seconds=said["seconds"],
        share=bound / said["seconds"],
        server_seconds=saw["seconds"],
        server_share=bound / saw["seconds"],
        cpu_ms=1e3 * said["cpu_seconds"] / calls,
        peak_mib=said["peak_mib"],
        most_in_flight=saw["most_in_flight"],
        prompts=saw["prompts"],
    )


def ask_server(url: str) -> dict[str, Any]:
    # Without the proxies of the environment: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer

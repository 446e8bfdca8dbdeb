"""How near to a server's bound do instructor calls come? taskdef and others, side by side on one loopback server.

    python benchmarks/instructor_speed.py [--calls 2000 10000] [--repeats 1] [--without data-designer] [--peers DIR]

The server (loopback_server.py, a process of its own) fills one of 64 slots for 200 ms a request and makes the rest
wait, so no client can have N answers before N / 64 * 0.2 s. Printed is the share of that bound that each client
reaches, from the first thing it does until its caller holds the last answer: the ramp-up, and writing to disk where
it does, are in it; importing libraries and making objects are not. Beside it stands the share in the server's own
window, from the first request to arrive to the last answer to leave, which leaves out what a client does before and
after its calls.

All are asked the same prompts, those that taskdef makes of one task's questions: the server adds up what it was asked,
and a client that left one out, asked one twice or asked something else ends the comparison. Each has the setting for
concurrency that served it best (see instructor_clients/). The sequential loop asks fewer and is scaled.

At the end taskdef's peak memory at 1,000 and at 100,000 calls, against a server ten times as fast. NVIDIA DataDesigner
and Bespoke Curator run in environments of their own, made with pip in --peers if they are not there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from instructor_clients.environments import PINNED
from instructor_clients.running import SCRIPTS, Client, Measurement, measure, server
from loopback_server import bound_seconds

LATENCY, SLOTS = 0.2, 64
SEQUENTIAL_CALLS = 50
MEMORY_CALLS = (1_000, 100_000)
MEMORY_LATENCY = LATENCY / 10


CLIENTS = (
    Client("taskdef", "run_taskdef.py"),
    Client("openai, 64 tasks", "run_openai.py", 64),
    Client("openai, 128 tasks", "run_openai.py", 128),
    Client("DataDesigner", "run_data_designer.py", package="data-designer"),
    Client("Curator", "run_curator.py", package="bespokelabs-curator"),
)
SEQUENTIAL = Client("sequential loop", "run_openai.py", 1)


def write_questions(path: Path, count: int) -> None:
    """As many different questions of one length as are wanted, one after the other."""
    with path.open("w") as file:
        for number in range(count):
            question = f"A shop has {10_000_000 + number} pens and sells {7 * number % 1_000_000} of them. "
            print(json.dumps(question + "How many pens are left, if each box holds a dozen of them?"), file=file)


def prompts_of(questions: Path, count: int, path: Path) -> Path:
    """The prompts that taskdef sends for the questions, for the clients that write none of their own."""
    written = path.with_suffix(".unordered")
    with tempfile.TemporaryDirectory() as folder, server(0.0, 4096, keep_prompts=written) as url:
        script = SCRIPTS / "run_taskdef.py"
        command = [sys.executable, str(script), f"{url}/v1", str(questions), str(count), folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    # Requests overtake each other; the questions' numbers have one width, so that sorting restores their order.
    path.write_text("".join(sorted(written.read_text().splitlines(keepends=True))))
    return path


def compare(clients: list[Client], sizes: list[int], repeats: int, peers: Path, work: Path) -> list[Measurement]:
    """Every client at every size, in turn, so that a busy minute of the machine does not fall on one client alone."""
    questions = work / "questions.jsonl"
    write_questions(questions, max(sizes))
    prompts = prompts_of(questions, max(sizes), work / "prompts.jsonl")
    found = [measure(SEQUENTIAL, prompts, SEQUENTIAL_CALLS, peers, latency=LATENCY, slots=SLOTS)]
    show(found[0], f"scaled: {1e3 * found[0].seconds / SEQUENTIAL_CALLS:.1f} ms a call")
    for calls in sizes:
        asked: dict[str, str] = {}
        for repeat in range(repeats):
            for client in clients:
                texts = questions if client.script == "run_taskdef.py" else prompts
                found.append(measure(client, texts, calls, peers, latency=LATENCY, slots=SLOTS))
                show(found[-1], f"run {repeat + 1} of {repeats}")
                asked[client.name] = found[-1].prompts
        if len(set(asked.values())) != 1:
            raise SystemExit(f"at {calls} calls the clients did not ask the same: {asked}")
    return found


def show(measurement: Measurement, note: str) -> None:
    print(
        f"  {measurement.client:18} {measurement.calls:6} calls {measurement.seconds:8.2f} s "
        f"{measurement.share:7.1%} of the bound, {note}",
        file=sys.stderr,
        flush=True,
    )


def print_machine() -> None:
    """Where it was measured, and whether anything else was running, which the figures then tell of as well."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    print(f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, load before: {load:.2f}")
    if load > cores / 4:
        print("This machine is busy with something else: the shares will be too low, for all. CPU times still hold.")


def print_table(found: list[Measurement], sizes: list[int]) -> None:
    """One table a size; the middle one of several runs, with their range."""
    per_call = found[0].seconds / found[0].calls
    for calls in sizes:
        bound = bound_seconds(calls, slots=SLOTS, latency=LATENCY)
        whole = LATENCY * -(-calls // SLOTS)
        print(f"\n{calls:,} calls, {LATENCY * 1e3:.0f} ms latency, {SLOTS} slots: bound {bound:.2f} s", end=" ")
        print(f"(answers come in whole rounds of {SLOTS}, so {bound / whole:.1%} is the most that can be reached)\n")
        print("| client | version | setting | seconds | share of the bound | in the server's window "
              "| CPU ms a call | peak MiB | most in flight | times the sequential loop |")  # fmt: skip
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for name in dict.fromkeys(m.client for m in found if m.calls == calls and m.client != SEQUENTIAL.name):
            runs = sorted((m for m in found if m.client == name and m.calls == calls), key=lambda m: m.share)
            middle = runs[len(runs) // 2]
            span = f" ({runs[0].share:.1%} to {runs[-1].share:.1%})" if len(runs) > 1 else ""
            print(
                f"| {name} | {middle.version} | {middle.setting} | {middle.seconds:.2f} | {middle.share:.1%}{span} "
                f"| {statistics.median(m.server_share for m in runs):.1%} | {middle.cpu_ms:.2f} "
                f"| {middle.peak_mib:.0f} | {middle.most_in_flight} | {per_call * calls / middle.seconds:.1f} |"
            )
        print(
            f"| {SEQUENTIAL.name} | {found[0].version} | {SEQUENTIAL_CALLS} calls, scaled | {per_call * calls:.0f} "
            f"| {bound / (per_call * calls):.1%} | - | {found[0].cpu_ms:.2f} | {found[0].peak_mib:.0f} | 1 | 1.0 |"
        )


def measure_memory(peers: Path, work: Path) -> list[Measurement]:
    """taskdef's peak at few and at many calls."""
    questions = work / "many-questions.jsonl"
    write_questions(questions, max(MEMORY_CALLS))
    found = [
        measure(CLIENTS[0], questions, calls, peers, latency=MEMORY_LATENCY, slots=SLOTS) for calls in MEMORY_CALLS
    ]
    few, many = found
    print(
        f"\nPeak memory of taskdef's process: {few.peak_mib:.1f} MiB at {few.calls:,} calls, {many.peak_mib:.1f} MiB",
        end=" ",
    )
    print(f"at {many.calls:,} ({many.peak_mib / few.peak_mib:.2f} times; {many.seconds:.0f} s)")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, nargs="+", default=[2_000, 10_000])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--without", nargs="+", default=[], choices=sorted(PINNED))
    parser.add_argument("--only", nargs="+", choices=[client.name for client in CLIENTS])
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peers", type=Path, default=Path("runs") / "peers", help="folder of the peers' environments")
    parser.add_argument("--out", type=Path, default=Path("runs") / "instructor-speed.json")
    arguments = parser.parse_args()
    clients = [
        client
        for client in CLIENTS
        if client.package not in arguments.without and (not arguments.only or client.name in arguments.only)
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="instructor-speed-"))
    print_machine()
    try:
        found = compare(clients, arguments.calls, arguments.repeats, arguments.peers, work)
        print_table(found, arguments.calls)
        found += [] if arguments.no_memory else measure_memory(arguments.peers, work)
    finally:
        shutil.rmtree(work)
    arguments.out.write_text(json.dumps([asdict(measurement) for measurement in found], indent=1))
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()

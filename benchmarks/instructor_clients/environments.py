"""Environments of their own for the clients that taskdef is compared with, and what keeps them on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PINNED = {"data-designer": "0.9.6", "bespokelabs-curator": "0.1.31"}
"""Releases that were compared: the newest of each whose requirements pip could meet."""
_NOWHERE = "http://127.0.0.1:9"


def environment_python(folder: Path, package: str) -> Path:
    """The interpreter of ``folder/package``, made with pip where it does not hold the pinned release yet.

    Raises SystemExit where it cannot be made.
    """
    python = folder.resolve() / package / "bin" / "python"
    wanted = f"{package}=={PINNED[package]}"
    if python.exists() and _holds(python, package):
        return python
    print(f"making an environment for {wanted} in {folder / package}", file=sys.stderr)
    for command in (
        [sys.executable, "-m", "venv", str(folder / package)],
        [str(python), "-m", "pip", "install", "--quiet", wanted],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(
                f"{wanted}: {' '.join(command)} failed: {done.stderr.strip()[-500:]}\n"
                f"leave it out with --without {package}"
            )
    return python


def _holds(python: Path, package: str) -> bool:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() == PINNED[package]


def closed_environment(home: Path, tokenizers: Path | None) -> dict[str, str]:
    """Environment variables under which a client sends nothing but its requests to loopback.

    What it would tell its makers is switched off by its own names for that, and whatever else it tries ends at a
    proxy that does not exist. ``tokenizers``: a folder with tiktoken's files, which both would download otherwise.
    """
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "DO_NOT_TRACK": "1",
        "NEMO_TELEMETRY_ENABLED": "false",  # DataDesigner
        "TELEMETRY_ENABLED": "false",  # Curator
        "CURATOR_DISABLE_RICH_DISPLAY": "1",  # it draws for terminals only; plain lines cost less
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HTTP_PROXY": _NOWHERE,
        "HTTPS_PROXY": _NOWHERE,
        "NO_PROXY": "127.0.0.1",
        **({"TIKTOKEN_CACHE_DIR": str(tokenizers)} if tokenizers else {}),
    }


def shipped_tokenizers(folder: Path) -> Path | None:
    """The tiktoken files that Curator's own dependency litellm ships; None where Curator is left out."""
    found = sorted(
        (folder.resolve() / "bespokelabs-curator").glob("lib/*/site-packages/litellm/litellm_core_utils/tokenizers")
    )
    return found[0] if found else None

"""A push as the command line does it, to a hub on loopback and to none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from finished_run import build_finished_run
from hub_server import hub_server

from taskdef.records import Stage
from taskdef.store import RunDirectory

pytestmark = pytest.mark.slow  # each starts the command line


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return build_finished_run(tmp_path / "sums", until=Stage.SELECT)


def push(run: RunDirectory, folder: Path, endpoint: str, token: str) -> "subprocess.CompletedProcess[str]":
    code = "from taskdef.cli import main; main()"
    words = ["export", str(run.path), "--to", "dataset", str(folder), "--push", "me/sums"]
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": token,
        "HF_HOME": str(folder.parent),
        "HF_HUB_DISABLE_XET": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment, timeout=120
    )


def test_the_folder_arrives_in_a_private_repository(run: RunDirectory, tmp_path: Path) -> None:
    with hub_server("good") as hub:
        done = push(run, tmp_path / "data", hub.address, "good")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"pushed to {hub.address}/datasets/me/sums/commit/0123 (private)"
    assert [(one["name"], one["organization"], one["type"], one["visibility"]) for one in hub.created] == [
        ("sums", "me", "dataset", "private")
    ]
    assert sorted(hub.files) == ["README.md", "data/all.parquet", "data/training.parquet"]
    assert hub.files["README.md"] == (tmp_path / "data" / "README.md").read_bytes()


def test_a_token_that_is_refused_is_one_message(run: RunDirectory, tmp_path: Path) -> None:
    with hub_server("good") as hub:
        done = push(run, tmp_path / "data", hub.address, "bad")
    assert done.returncode == 2
    error, following = done.stderr.strip().splitlines()
    assert error.startswith("error: --push me/sums: the hub did not take it: ")
    assert "401" in error
    assert following == f"next: hf upload me/sums {tmp_path / 'data'} . --repo-type dataset"


def test_without_a_network_the_folder_stands_and_one_message_says_so(run: RunDirectory, tmp_path: Path) -> None:
    done = push(run, tmp_path / "data", "http://127.0.0.1:9", "good")
    assert done.returncode == 2
    error, following = done.stderr.strip().splitlines()
    assert error.startswith("error: --push me/sums: the hub cannot be reached: ")
    assert error.endswith(f"; {tmp_path / 'data'} stands")
    assert following == f"next: hf upload me/sums {tmp_path / 'data'} . --repo-type dataset"
    assert (tmp_path / "data" / "README.md").exists()

"""An exported folder to the Hugging Face hub: a private repository, made where there is none.

The token comes from the environment and from nowhere else; nothing is asked, nothing is read from files.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Literal

from taskdef.errors import ConfigError, RunError
from taskdef.hub import find_hub_fault

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def require_push(repository: str) -> str:
    """The token, before anything is written. Raises ConfigError where it is missing or the name is none."""
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"--push {repository}: no name of a repository", next_step="--push OWNER/NAME")
    token = next((value for name in TOKEN_VARIABLES if (value := os.environ.get(name, "").strip())), None)
    if token is None:
        raise ConfigError(
            f"--push {repository}: no token in the environment",
            next_step="export HF_TOKEN=… with a token that may write",
        )
    return token


def push_folder(folder: Path, repository: str, kind: Literal["dataset", "model"], token: str) -> str:
    """Upload the folder as one commit and give its address.

    Raises RunError, in one message, where the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    # one short question first: the upload itself would try for minutes
    fault = find_hub_fault(kind, repository)
    if fault is not None and not fault.reached:
        raise _refused(folder, repository, kind, fault.reason)
    api = HfApi(token=token)
    try:
        api.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, repo_type=kind, folder_path=folder, commit_message="Exported by taskdef"
        )
    except Exception as error:  # the HTTP library's own errors come through, and that library changes
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise _refused(folder, repository, kind, f"the hub did not take it: {lines[0]}") from error
    return str(done)


def _refused(folder: Path, repository: str, kind: str, reason: str) -> RunError:
    upload = shlex.join(["hf", "upload", repository, str(folder), ".", "--repo-type", kind])
    return RunError(f"--push {repository}: {reason}; {folder} stands", next_step=upload)

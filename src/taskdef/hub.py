"""Asking the Hugging Face hub once, with a short limit, before a library that would try for most of a minute."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

_SECONDS = 10.0
"""Longest wait for the hub's first answer."""


@dataclass(frozen=True)
class HubFault:
    """Why the hub gives nothing."""

    reached: bool
    """False where there was no answer at all: a copy on this machine may still serve."""
    reason: str


def find_hub_fault(kind: Literal["model", "dataset"], name: str) -> HubFault | None:
    """Ask for what is known about a model or a data set; None where the hub has it. Raises nothing."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    logging.getLogger("huggingface_hub").setLevel(
        logging.ERROR
    )  # its lines about each retry would stand before taskdef's own message
    try:
        HfApi().repo_info(name, repo_type=kind, timeout=_SECONDS)
    except RepositoryNotFoundError:
        what = "data set" if kind == "dataset" else kind
        return HubFault(True, f"the hub has no such {what}, or none that is open to you")
    except Exception as error:  # errors of the HTTP library come through as they are, and the library changes
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return HubFault(False, f"the hub cannot be reached: {first_line}")
    return None

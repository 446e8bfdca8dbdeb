"""The task.yaml that ``taskdef init`` writes: commented, complete, and accepted by ``taskdef check`` as it stands."""

from __future__ import annotations

from pathlib import Path


def template() -> str:
    """The commented example, as text."""
    return (Path(__file__).parent / "template.yaml").read_text(encoding="utf-8")

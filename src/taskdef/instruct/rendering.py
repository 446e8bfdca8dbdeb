"""From a template in ``prompts/`` to a prompt."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2


def render(name: str, **values: Any) -> str:
    """``prompts/NAME.jinja`` filled in; a value that is missing is a bug and raises jinja2.UndefinedError."""
    return _environment().get_template(f"{name}.jinja").render(**values).strip()


def mark(text: str) -> str:
    """A mark that the text cannot contain, because it follows from the text: its end cannot be forged inside."""
    return f"material-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    # No autoescape: the result is a prompt, and no user text is ever compiled as a template.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "prompts"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters["mark"] = mark
    return environment

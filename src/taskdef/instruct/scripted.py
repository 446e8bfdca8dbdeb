"""``scripted:FILE``: recorded answers in place of a model, for demos and tests.

One JSON object a line:

    {"purpose": "generate", "match": "rivers", "response": "..."}
    {"purpose": "answer", "responses": ["...", "..."]}

A request takes the first line of its purpose (``PURPOSES``) whose ``match``, if any, occurs in the prompt;
``responses`` are gone round by the request's index.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from taskdef.errors import InstructorError
from taskdef.instruct.chat import ChatRequest, Choice, Reply, Usage
from taskdef.instruct.writing import STEPS
from taskdef.unicode import clean_unicode

PURPOSES = ("keywords", "pattern", "generate", "answer", "harder", "easier", "grade", *STEPS)


@dataclass(frozen=True)
class ScriptLine:
    """One recorded answer, or several to go round."""

    purpose: str
    match: str
    responses: tuple[str, ...]


class ScriptedEndpoint:
    """An endpoint that reads its answers from a file."""

    def __init__(self, path: Path) -> None:
        """Raises InstructorError where the file is missing or a line is malformed."""
        self.path = path
        self.model = path.name
        self.habits: dict[str, bool] = {}
        try:
            content = path.read_bytes()
            lines = content.decode("utf-8").splitlines()
        except OSError as error:
            raise InstructorError(
                f"scripted:{path}: cannot be read: {error.strerror}",
                next_step="give a file that is there: scripted:FILE",
            ) from None
        except UnicodeDecodeError:
            raise InstructorError(f"scripted:{path}: not UTF-8", next_step="save it as UTF-8") from None
        # The content is part of the key: an edited script is asked again.
        self.address = f"sha256:{hashlib.sha256(content).hexdigest()[:16]}"
        self._lines = [self._parse(number, line) for number, line in enumerate(lines, start=1) if line.strip()]

    def takes_count(self) -> bool:
        return True

    async def ask(self, request: ChatRequest, count: int) -> Reply:
        """The recorded answers. Raises InstructorError where there is none."""
        for line in self._lines:
            if line.purpose == request.purpose and line.match in request.prompt:
                indices = range(request.index, request.index + count)
                texts = [line.responses[index % len(line.responses)] for index in indices]
                return Reply(tuple(Choice(text, "stop") for text in texts), Usage(0, 0))
        raise InstructorError(
            f"scripted:{self.path}: no answer recorded for {request.purpose!r} (index {request.index}); "
            f"the prompt ends: …{request.prompt[-160:]!r}",
            next_step=f'add a line {{"purpose": "{request.purpose}", "response": "…"}} to the file',
        )

    async def close(self) -> None:
        """Nothing to release."""

    def _parse(self, number: int, line: str) -> ScriptLine:
        try:
            row = json.loads(line)
        except ValueError:
            raise self._fault(number, "not JSON") from None
        if not isinstance(row, dict) or row.get("purpose") not in PURPOSES:
            raise self._fault(number, f"`purpose` is not one of {', '.join(PURPOSES)}")
        unknown = sorted(set(row) - {"purpose", "match", "response", "responses"})
        if unknown:
            raise self._fault(number, f"unknown key {unknown[0]!r}")
        responses = row.get("responses", [row["response"]] if "response" in row else None)
        if not isinstance(responses, list) or not responses or not all(isinstance(r, str) for r in responses):
            raise self._fault(number, "needs `response` (a text) or `responses` (a list of texts)")
        match = row.get("match", "")
        if not isinstance(match, str):
            raise self._fault(number, "`match` is not a text")
        return ScriptLine(row["purpose"], match, tuple(map(clean_unicode, responses)))

    def _fault(self, number: int, why: str) -> InstructorError:
        return InstructorError(
            f"scripted:{self.path}:{number}: {why}",
            next_step='write such lines: {"purpose": "generate", "match": "rivers", "response": "…"}',
        )

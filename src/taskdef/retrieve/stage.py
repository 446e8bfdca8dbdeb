"""Stage 1, retrieve: keywords from the instructor, passages from the user's libraries (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskdef.config import RetrieveConfig
from taskdef.errors import LibraryError
from taskdef.instruct.protocol import Instructor
from taskdef.instruct.words import content_words
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Passage, TaskDefinition
from taskdef.retrieve.documents import INSTALL
from taskdef.retrieve.files import KINDS
from taskdef.retrieve.index import Index
from taskdef.retrieve.keywords import build_queries
from taskdef.retrieve.skips import SkipReason
from taskdef.retrieve.stored import SearchedLibrary, open_libraries


@dataclass(frozen=True)
class Retrieval:
    """What the stage found."""

    passages: tuple[Passage, ...]
    """Best first; with sub-domains in turn, the best of each first."""
    keywords: tuple[str, ...]
    libraries: tuple[SearchedLibrary, ...]
    requested: int

    def to_json(self) -> dict[str, Any]:
        """The content of retrieval.json."""
        return {
            "keywords": list(self.keywords),
            "libraries": [
                {
                    "source": library.source,
                    "passages": library.passages,
                    "skipped": [{"what": skipped.what, "why": skipped.why} for skipped in library.skipped.named],
                }
                for library in self.libraries
            ],
            "requested": self.requested,
        }


async def retrieve_passages(
    definition: TaskDefinition,
    config: RetrieveConfig,
    *,
    instructor: Instructor,
    progress: Progress | None = None,
) -> Retrieval:
    """Read the libraries, ask for keywords, return the best ``config.passages`` passages.

    Without libraries nothing is asked and nothing is found; samples are then written from the definition alone. Where
    no passage holds any of the keywords, which a weak instructor can bring about, the words of the task's description
    take their place. Raises LibraryError where a library is missing, all are empty or no passage holds any of these
    words, InstructorError where no keywords can be had.
    """
    progress = progress or SilentProgress()
    if not definition.passages:
        progress.line("no passage libraries in the task definition: samples are written from the definition alone")
        return Retrieval((), (), (), config.passages)
    index, libraries = open_libraries(definition.passages, progress)
    _refuse_empty(libraries)
    skipped = [line for library in libraries for line in library.skipped.lines()]
    total = sum(library.skipped.total for library in libraries)
    progress.line(f"{len(index)} passages in {len(libraries)} libraries, {total} parts skipped")
    for line in skipped[:5]:
        progress.line(f"  skipped {line}")
    keywords = await instructor.keywords(definition)
    progress.line(f"keywords: {', '.join(keywords)}")
    found = _search(index, definition, keywords, config.passages)
    if not found:
        keywords = content_words(definition.description)
        progress.line(f"no passage holds any of them; searching for the description's words: {', '.join(keywords)}")
        found = _search(index, definition, keywords, config.passages)
    if not found:
        raise LibraryError(
            f"{', '.join(library.source for library in libraries)}: none of {len(index)} passages holds a keyword "
            "of the instructor or a word of the task's description",
            next_step="give a library about the task's subject (--passages PATH), or none at all",
        )
    progress.line(f"{len(found)} passages hold at least one of them")
    return Retrieval(tuple(found), tuple(keywords), tuple(libraries), config.passages)


def _refuse_empty(libraries: Sequence[SearchedLibrary]) -> None:
    if any(library.passages for library in libraries):
        return
    skipped = next((part for library in libraries for part in library.skipped.named), None)
    missing = any(library.skipped.counts[SkipReason.NO_CONVERTER] for library in libraries)
    raise LibraryError(
        f"{', '.join(library.source for library in libraries)}: no passages"
        f"{f'; {skipped.what}: {skipped.why}' if skipped else ''}",
        next_step=INSTALL if missing else f"give files with text in them ({', '.join(KINDS)}; `text_field` for rows)",
    )


def _search(index: Index, definition: TaskDefinition, keywords: list[str], count: int) -> list[Passage]:
    rankings = [
        [passage.model_copy(update={"domain": query.domain}) for passage in index.search(query.text, count=count)]
        for query in build_queries(definition, keywords)
    ]
    return take_turns(rankings, count)


def take_turns(rankings: Sequence[Sequence[Passage]], count: int) -> list[Passage]:
    """Up to ``count`` passages, the rankings choosing in turn the best that none has chosen before."""
    chosen: dict[str, Passage] = {}
    rests = [iter(ranking) for ranking in rankings]
    while rests and len(chosen) < count:
        still = []
        for rest in rests:
            best = next((passage for passage in rest if passage.id not in chosen), None)
            if best is not None and len(chosen) < count:
                chosen[best.id] = best
                still.append(rest)
        rests = still
    return list(chosen.values())

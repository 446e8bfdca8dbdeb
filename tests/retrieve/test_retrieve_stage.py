"""Search and the retrieve stage: what is found, in which order, for which sub-domain."""

import asyncio
import json
from pathlib import Path

import pytest

from taskdef.config import RetrieveConfig
from taskdef.errors import LibraryError
from taskdef.instruct.procedural import ProceduralInstructor
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Passage, PassageSource, TaskDefinition
from taskdef.retrieve.fusion import take_turns
from taskdef.retrieve.index import Index
from taskdef.retrieve.stage import Retrieval, retrieve_passages

TEXTS = [
    "Adding numbers: the sum of two numbers counts both together.",
    "Roses need sun and water.",
    "The difference of two numbers is what remains after subtraction.",
    "A river added silt to its banks.",
]


def passages(*texts: str) -> list[Passage]:
    return [Passage(id=str(i), text=text, source="here") for i, text in enumerate(texts)]


def definition(folder: Path | None, **changes: object) -> TaskDefinition:
    values: dict[str, object] = {
        "name": "sums",
        "description": "Work out the sum or the difference of two numbers.",
        "output_format": "#### and the number",
        "answer": AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
    }
    if folder is not None:
        path = folder / "library.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
        values["passages"] = (PassageSource(path=path),)
    return TaskDefinition.model_validate(values | changes)


def retrieve(task: TaskDefinition, count: int) -> Retrieval:
    instructor = ProceduralInstructor("chain_sum", seed=0)
    return asyncio.run(retrieve_passages(task, RetrieveConfig(passages=count), instructor=instructor))


def test_words_are_found_in_other_forms_and_stop_words_find_nothing() -> None:
    index = Index(passages(*TEXTS))
    assert [p.id for p in index.search("add", 4)] == ["3", "0"]  # "added", "Adding"; the shorter text weighs more
    assert index.search("and the of", 4) == []
    assert index.search("zebra", 4) == []
    assert index.search("", 4) == []


def test_equal_scores_keep_the_librarys_order() -> None:
    found = Index(passages("one sum", "two rivers", "one sum")).search("sum", 2)
    assert [p.id for p in found] == ["0", "2"]
    assert found[0].score == found[1].score > 0


def test_the_stage_returns_the_best_passages_and_what_it_searched(tmp_path: Path) -> None:
    retrieval = retrieve(definition(tmp_path), 2)
    assert {p.text for p in retrieval.passages} == {TEXTS[0], TEXTS[2]}
    assert "sum" in retrieval.keywords
    summary = retrieval.to_json()
    assert summary["requested"] == 2
    assert summary["libraries"] == [{"source": str(tmp_path / "library.jsonl"), "passages": 4, "skipped": []}]


def test_no_libraries_is_no_error() -> None:
    retrieval = retrieve(definition(None), 5)
    assert (retrieval.passages, retrieval.keywords, retrieval.libraries) == ((), (), ())


class Alphabet(ProceduralInstructor):
    """Names keywords that stand in no passage, as SmolLM2 does: it counts up the alphabet."""

    async def keywords(self, definition: TaskDefinition) -> list[str]:
        return ["a", "b", "c"]


def test_keywords_that_find_nothing_give_way_to_the_descriptions_words(tmp_path: Path) -> None:
    instructor = Alphabet("chain_sum", seed=0)
    found = asyncio.run(retrieve_passages(definition(tmp_path), RetrieveConfig(passages=2), instructor=instructor))
    assert {p.text for p in found.passages} == {TEXTS[0], TEXTS[2]}
    assert found.keywords == ("work", "sum", "difference", "numbers")


def test_a_library_about_something_else_is_refused(tmp_path: Path) -> None:
    task = definition(tmp_path, description="Translate proverbs.")
    with pytest.raises(LibraryError) as refusal:
        asyncio.run(retrieve_passages(task, RetrieveConfig(passages=2), instructor=Alphabet("chain_sum", seed=0)))
    assert refusal.value.message == (
        f"{tmp_path / 'library.jsonl'}: none of 4 passages holds a keyword of the instructor or a word of the task's "
        "description"
    )
    assert refusal.value.next_step == "give a library about the task's subject (--passages PATH), or none at all"


def test_sub_domains_take_turns(tmp_path: Path) -> None:
    found = retrieve(definition(tmp_path, domains=("addition", "river"), description="Answer it."), 4).passages
    assert [(p.text, p.domain) for p in found][:2] == [(TEXTS[0], "addition"), (TEXTS[3], "river")]


def test_turns_skip_what_another_ranking_took() -> None:
    a, b, c = passages("a", "b", "c")
    assert [p.id for p in take_turns([[a, b], [a, c]], 3)] == ["0", "2", "1"]
    assert [p.id for p in take_turns([[a, b], []], 9)] == ["0", "1"]
    assert take_turns([], 3) == []

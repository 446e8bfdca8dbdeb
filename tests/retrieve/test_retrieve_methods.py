"""retrieve.method: the best passages, the least relevant, any, none; queries by topic and by sub-domain."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from taskdef.config import RetrieveConfig
from taskdef.errors import ConfigError
from taskdef.instruct.procedural import ProceduralInstructor
from taskdef.progress import SilentProgress
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Passage, PassageSource, TaskDefinition
from taskdef.retrieve.index import Index
from taskdef.retrieve.keywords import Search, build_searches
from taskdef.retrieve.methods import find_passages
from taskdef.retrieve.stage import Retrieval, retrieve_passages
from taskdef.retrieve.stored import open_libraries

SUMS = ["A sum of numbers.", "The sum and the difference of numbers.", "Numbers."]
OTHERS = ["Roses need sun.", "A river bends.", "Wool is warm.", "Slate splits.", "Bread rises."]


def task(**changes: Any) -> TaskDefinition:
    values: dict[str, Any] = {
        "name": "sums",
        "description": "Work out sums of numbers.",
        "output_format": "#### and the number",
        "answer": AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
    }
    return TaskDefinition.model_validate(values | changes)


def index_of(*texts: str) -> Index:
    return Index([Passage(id=str(place), text=text, source="here") for place, text in enumerate(texts)])


def texts_by(method: str, count: int, seed: int = 0) -> list[str]:
    config = RetrieveConfig.model_validate({"method": method, "passages": count})
    searches = [Search("sum numbers difference", ("sum numbers", "sum difference"))]
    return [passage.text for passage in find_passages(index_of(*SUMS, *OTHERS), searches, config, seed)]


def test_the_best_are_what_shares_words_with_the_keywords() -> None:
    found = texts_by("bm25", 8)
    assert set(found) == set(SUMS)
    assert found[0] == SUMS[1]  # it holds all three words


def test_the_least_relevant_share_no_word_and_are_drawn_by_chance() -> None:
    assert set(texts_by("adversarial", 5)) == set(OTHERS)
    assert texts_by("adversarial", 5, seed=0) == texts_by("adversarial", 5, seed=0)
    assert texts_by("adversarial", 5, seed=0) != texts_by("adversarial", 5, seed=1)


def test_where_too_few_are_irrelevant_the_lowest_scores_follow() -> None:
    # "Numbers." is one frequent word; the sentence with all three words scores highest and comes last
    assert texts_by("adversarial", 8)[5:] == [SUMS[2], SUMS[0], SUMS[1]]


def test_random_passages_are_all_there_is_in_an_order_of_the_seeds() -> None:
    orders = [texts_by("random", 8, seed) for seed in range(3)]
    assert all(sorted(order) == sorted([*SUMS, *OTHERS]) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert len(texts_by("random", 3)) == 3


def test_each_passage_is_drawn_about_as_often_as_any_other() -> None:
    # 3 of 8 in 100 draws: 37.5 each on average, with a standard deviation of about 5
    drawn = [text for seed in range(100) for text in texts_by("random", 3, seed)]
    assert all(18 <= drawn.count(text) <= 57 for text in [*SUMS, *OTHERS])


def test_scores_say_how_well_a_passage_fits_whatever_the_method() -> None:
    index = index_of(*SUMS, *OTHERS)
    searches = [Search("sum numbers difference")]
    by_text = {passage.text: passage.score for passage in index.search("sum numbers difference", 8)}
    for method in ("bm25", "random", "adversarial"):
        config = RetrieveConfig.model_validate({"method": method, "passages": 8})
        for passage in find_passages(index, searches, config, 0):
            assert passage.score == pytest.approx(by_text.get(passage.text, 0.0))


def test_of_two_libraries_the_heavier_is_drawn_from_more_and_equal_texts_once(tmp_path: Path) -> None:
    for name in ("light", "heavy"):
        rows = [f"{name} stone {number}" for number in range(40)] + ["the same stone"]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    sources = [PassageSource(path=tmp_path / "light.jsonl"), PassageSource(path=tmp_path / "heavy.jsonl", weight=9)]
    index, _ = open_libraries(sources, SilentProgress(), tmp_path / "cache")
    config = RetrieveConfig(method="random", passages=20)
    drawn = [p.text for seed in range(20) for p in find_passages(index, [Search("stone")], config, seed)]
    assert len(drawn) == 400
    assert 4 < sum("heavy" in text for text in drawn) / sum("light" in text for text in drawn) < 12
    for method in ("random", "adversarial"):
        config = RetrieveConfig.model_validate({"method": method, "passages": 100})
        texts = [passage.text for passage in find_passages(index, [Search("stone")], config, 0)]
        assert len(texts) == len(set(texts)) == 81


def test_topics_are_led_by_the_field() -> None:
    assert build_searches(task(), ["arithmetic", "sum", "carrying over"]) == [
        Search("arithmetic sum carrying over", ("arithmetic sum", "arithmetic carrying over"))
    ]
    assert build_searches(task(), ["arithmetic"]) == [Search("arithmetic")]


def test_sub_domains_have_searches_of_their_own() -> None:
    both = build_searches(task(domains=("law", "medicine")), ["exam"])
    assert both == [
        Search("law law law exam", ("law exam",), "law"),
        Search("medicine medicine medicine exam", ("medicine exam",), "medicine"),
    ]


def test_a_keyword_of_its_own_brings_passages_that_the_whole_query_buries() -> None:
    # Ten passages repeat the rare word; in the whole query they hold all first places.
    rare = [f"zygote zygote zygote {number}" for number in range(10)]
    index = index_of(*rare, "biology of the cell", *(["biology"] * 20))
    whole = Search("biology zygote cell")
    topics = Search("biology zygote cell", ("biology zygote", "biology cell"))
    config = RetrieveConfig(passages=5)
    assert "biology of the cell" in [passage.text for passage in find_passages(index, [topics], config, 0)][:2]
    assert len(find_passages(index, [whole], config, 0)) == 5


def stage(definition: TaskDefinition, **settings: Any) -> Retrieval:
    config = RetrieveConfig.model_validate(settings)
    instructor = ProceduralInstructor("chain_sum", seed=0)
    return asyncio.run(retrieve_passages(definition, config, instructor=instructor))


def test_documents_are_named_and_used_in_turn(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "long.md").write_text("\n\n".join(f"Sums of numbers, sums and sums: {n}." * 9 for n in range(30)))
    (library / "short.md").write_text("A sum of numbers.")
    found = stage(task(passages=(PassageSource(path=library, passage_words=40),)), passages=100).passages
    assert {passage.document for passage in found} == {"long.md", "short.md"}
    assert "short.md" in [passage.document for passage in found[:3]]


def test_none_leaves_the_libraries_alone(tmp_path: Path) -> None:
    found = stage(task(passages=(PassageSource(path=tmp_path / "no such folder"),)), method="none")
    assert (found.passages, found.keywords, found.to_json()["method"]) == ((), (), "none")


def test_an_unknown_method_is_named() -> None:
    from taskdef.config import build_config

    with pytest.raises(ConfigError) as refusal:
        build_config(overrides={"retrieve.method": "best"})
    assert "retrieve.method: input should be 'bm25'" in refusal.value.message

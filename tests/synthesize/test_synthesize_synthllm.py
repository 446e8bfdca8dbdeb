"""SynthLLM step by step: concepts of documents, three levels of questions, answers from the question alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from synthesizer_runs import SUMS, Made, line, write_with

from taskdef.errors import InstructorError
from taskdef.records import Passage
from taskdef.verify.isolated import Verifier

PASSAGES = [
    Passage(id="p0", text="Farms sell apples by the crate.", source="here", domain="farming"),
    Passage(id="p1", text="Ships carry crates over the sea.", source="here"),
    Passage(id="p2", text="Nobody can read this document.", source="here"),
    Passage(id="p3", text="The fourth is beyond the limit.", source="here"),
]
SMALL = {
    "method": "synthllm",
    "synthllm__documents": 3,
    "synthllm__questions": 2,
    "synthllm__combination_questions": 2,
    "max_draft_factor": 1,
}


def questions(*texts: str, **more: object) -> dict[str, object]:
    return {"questions": [{"question": text, **more} for text in texts]}


LEVEL_1, LEVEL_2 = 'mark them "original"', "another combination each time"
SCRIPT = [
    line("concepts", {"topics": ["Trade"], "concepts": ["unit price", "weight"]}, match="Farms"),
    line("concepts", {"topics": ["trade", "Freight"], "concepts": ["Weight", "load"]}, match="Ships"),
    line("concepts", "no idea", match="Nobody"),
    # a prompt with both documents is level 3
    line("questions", questions("Both: 1 + 1?", "Both: 2 + 2?", concepts=["load"]), match="stand between marks"),
    line("questions", questions("Old: 3 + 3?", origin="original"), match='mark them "original".'),
    line("questions", questions("Farm: 4 + 4?", "Farm: 5 + 5?", concepts=["weight", "Trade"]), match="Farms"),
    line("questions", "1. Ship: 6 + 6?\n2. Ship: 7 + 7?", match="Ships"),
    *(line("solve", {"output": f"{n} + {n}\n#### {2 * n}"}, match=f" {n} +") for n in range(8)),
    *(line("answer", f"#### {2 * n}", match=f" {n} +") for n in range(8)),
]


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(SUMS.answer) as verifier:
        yield verifier


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, verifier: Verifier) -> Made:
    return write_with(
        tmp_path_factory.mktemp("run"), SUMS, SCRIPT, passages=PASSAGES, samples=15, verifier=verifier, **SMALL
    )


def test_concepts_are_extracted_from_each_of_the_first_documents_once(made: Made) -> None:
    prompts = made.prompts("concepts")
    assert len(prompts) == 3
    assert [sum(passage.text in prompt for prompt in prompts) for passage in PASSAGES] == [1, 1, 1, 0]


def test_level_1_takes_over_questions_and_has_new_ones_written_from_one_document(made: Made) -> None:
    prompts = [prompt for prompt in made.prompts("questions") if LEVEL_1 in prompt]
    assert len(prompts) == 3  # five drafts of this level, two a request
    assert all("Key concepts:" not in prompt for prompt in prompts)
    first = made.samples[0]
    assert (first.id, first.input, first.passage_id, first.domain) == ("s00000", "Old: 3 + 3?", "p0", "farming")
    assert first.steps == {"level": "1", "origin": "original"}


def test_level_2_combines_concepts_of_one_document(made: Made) -> None:
    prompts = [prompt for prompt in made.prompts("questions") if LEVEL_2 in prompt and "two marks" in prompt]
    (farm,) = [prompt for prompt in prompts if "Farms" in prompt]
    assert "Topics: Trade\n" in farm
    assert "Key concepts: unit price; weight\n" in farm
    sample = next(sample for sample in made.samples if sample.input == "Farm: 5 + 5?")
    assert (sample.id, sample.passage_id) == ("s00004", "p0")
    assert sample.steps == {"level": "2", "concepts": "weight; Trade"}
    # a list without the concepts that were chosen is a list of questions all the same
    assert next(sample.steps for sample in made.samples if sample.input == "Ship: 6 + 6?")["concepts"] == ""


def test_level_3_combines_concepts_and_documents(made: Made) -> None:
    prompts = [prompt for prompt in made.prompts("questions") if "stand between marks" in prompt]
    assert len(prompts) == 3  # five drafts of this level, two a request
    for prompt in prompts:
        assert "Farms" in prompt
        assert "Ships" in prompt
        assert "Nobody" not in prompt
        assert "Topics: " in prompt
    sample = next(sample for sample in made.samples if sample.input == "Both: 1 + 1?")
    assert sample.steps["level"] == "3"
    assert {sample.passage_id, sample.steps["passage 2"]} == {"p0", "p1"}


def test_a_question_is_solved_without_the_document(made: Made) -> None:
    prompts = made.prompts("solve")
    assert len(prompts) == 8 - 1  # each different question once; 0 + 0 is not among them
    assert not any("Farms" in prompt or "Ships" in prompt for prompt in prompts)


def test_every_failure_is_a_drop_with_its_step_and_its_passage(made: Made) -> None:
    details = {drop.id: (drop.reason.value, drop.passage_id, drop.detail) for drop in made.drops}
    # level 1: one question came where two were asked for
    assert details["s00003"] == ("unparseable", "p0", "questions: 1 came where 2 were asked for")
    # level 2 on the third document, which gave no concepts
    assert details["s00013"] == ("unparseable", "p2", "concepts: no topics or key concepts: no idea")
    assert details["s00006"][0] == "duplicate"  # the same old question from another document
    assert len(made.samples) + len(made.drops) == 15


def test_one_level_alone_asks_for_nothing_of_the_others(tmp_path: Path, verifier: Verifier) -> None:
    found = write_with(
        tmp_path, SUMS, SCRIPT, passages=PASSAGES, samples=1, synthllm__level=1, verifier=verifier, **SMALL
    )
    assert found.asked() == {"questions": 1, "solve": 1}
    assert [sample.steps["level"] for sample in found.samples] == ["1"]


def test_documents_gone_round_are_another_request(tmp_path: Path, verifier: Verifier) -> None:
    made = [questions(f"Turn {turn}: 1 + 1?", f"Turn {turn}: 2 + 2?") for turn in ("one", "two")]
    script = [line("questions", *made), *SCRIPT[-16:]]
    found = write_with(
        tmp_path, SUMS, script, passages=PASSAGES[:1], samples=4, synthllm__level=1, verifier=verifier, **SMALL
    )
    assert [sample.input[:8] for sample in found.samples] == ["Turn one", "Turn one", "Turn two", "Turn two"]


def test_without_any_topic_level_3_has_nothing_to_combine(tmp_path: Path, verifier: Verifier) -> None:
    with pytest.raises(InstructorError) as stop:
        write_with(
            tmp_path,
            SUMS,
            [line("concepts", '{"topics": [], "concepts": ["load"]}')],
            passages=PASSAGES,
            samples=2,
            synthllm__level=3,
            verifier=verifier,
            **SMALL,
        )
    assert "concepts: no document has a topic to combine concepts from" in str(stop.value)


def test_nothing_is_asked_twice_and_the_same_comes_again(made: Made, tmp_path: Path, verifier: Verifier) -> None:
    first = write_with(tmp_path, SUMS, SCRIPT, passages=PASSAGES, samples=15, verifier=verifier, **SMALL)
    again = write_with(tmp_path, SUMS, SCRIPT, passages=PASSAGES, samples=15, verifier=verifier, **SMALL)
    assert (again.samples, again.drops) == (first.samples, first.drops) == (made.samples, made.drops)
    assert again.spending.calls == first.spending.calls

"""TarGEN step by step: contexts, instance seeds, label-constrained instances, self-correction."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthesizer_runs import CLAIMS, SUMS, Made, line, write_with

from taskdef.errors import InstructorError
from taskdef.verify.isolated import Verifier

LABELS = CLAIMS.answer.choices
SMALL = {"method": "targen", "targen__contexts": 3, "targen__seeds": 2}
DRAFTS = [{"input": f"Text {n}, claim {n * n}?", "output": f"<answer>{LABELS[n % 3]}</answer>"} for n in range(24)]
SCRIPT = [
    line("contexts", {"items": ["weather", "sport", "law", "one more than asked for"]}),
    line("seeds", {"items": ["It rained.", "It snowed."]}, {"items": ["It hailed."]}, match="context: weather"),
    line("seeds", {"items": ["They won.", "They lost."]}, match="context: sport"),
    line("seeds", "1. He sued.\n2. She sued.\n3. All sued.", match="context: law"),
    line("constrain", *DRAFTS[:5], "no sample at all", *DRAFTS[6:]),
    line("correct", '{"output": "On second thoughts: <answer>neither</answer>"}', match="Text 1,"),
    line("correct", "", match="Text 2,"),
    line("correct", "It is right.", match="Text 3,"),
    *(line("correct", {"output": f"Yes: <answer>{label}</answer>"}, match=f"<answer>{label}<") for label in LABELS),
    *(line("answer", f"<answer>{'neither' if n == 1 else LABELS[n % 3]}</answer>", match=f"{n},") for n in range(20)),
]


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(CLAIMS.answer) as verifier:
        yield verifier


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, verifier: Verifier) -> Made:
    return write_with(
        tmp_path_factory.mktemp("run"), CLAIMS, SCRIPT, samples=9, max_draft_factor=1.5, verifier=verifier, **SMALL
    )


def test_contexts_are_asked_for_once_and_gone_round(made: Made) -> None:
    assert len(made.prompts("contexts")) == 1
    assert "List\n3 that differ widely" in made.prompts("contexts")[0]
    assert {sample.steps["context"] for sample in made.samples} == {"weather", "sport", "law"}


def test_each_context_has_a_list_of_seeds_and_the_next_list_when_that_is_used_up(made: Made) -> None:
    seeds = {(sample.steps["context"], sample.steps["seed"]) for sample in made.samples}
    assert seeds >= {("weather", "It rained."), ("weather", "It hailed."), ("sport", "They lost."), ("law", "He sued.")}
    # 13 drafts: rounds 0 and 1 from the first lists, 2 and 3 from the second, 4 (one draft) from the third of weather
    assert Counter(call["sample_index"] for call in made.calls if call["purpose"] == "seeds") == {0: 3, 1: 3, 2: 1}


def test_an_instance_is_written_for_a_label_all_labels_equally_often_in_every_context(made: Made) -> None:
    prompts = made.prompts("constrain")
    wanted = [next(label for label in LABELS if f"only right answer is: {label}" in prompt) for prompt in prompts]
    names = ("weather", "sport", "law")
    contexts = [next(name for name in names if f"context: {name}" in prompt) for prompt in prompts]
    assert Counter(wanted[:9]) == {"supported": 3, "refuted": 3, "neither": 3}
    assert Counter(zip(contexts[:9], wanted[:9], strict=True)) == {
        (context, label): 1 for context in names for label in LABELS
    }


def test_self_correction_is_the_last_step_and_replaces_the_output(made: Made) -> None:
    by_id = {sample.id: sample for sample in made.samples}
    assert by_id["s00000"].solution in ("Yes: <answer>supported</answer>", "<answer>supported</answer>")
    # written for a label as "refuted", corrected to "neither", which the vote confirms
    assert (by_id["s00001"].steps["label"], by_id["s00001"].answer) == ("refuted", "neither")


def test_every_failure_is_a_drop_with_its_step(made: Made) -> None:
    details = {drop.id: (drop.reason.value, drop.detail) for drop in made.drops}
    assert details["s00002"] == ("unparseable", "correct: empty: ")
    assert details["s00003"] == ("gold_fails", "no readable answer in: …It is right.")  # no JSON: read as an output
    assert details["s00005"] == ("unparseable", "constrain: no object: no sample at all")
    assert details["s00009"] == ("unparseable", "seeds: 1 came where 2 were asked for")
    assert len(made.samples) + len(made.drops) == 13


def test_where_answers_are_open_an_instance_can_be_written_without_a_label(tmp_path: Path) -> None:
    script = [
        line("contexts", {"items": ["market"]}),
        line("seeds", {"items": ["Pears cost 3.", "Figs cost 4."]}),
        line("constrain", {"input": "Pears at 3 and 4?", "output": "#### 7"}, {"input": "Figs?", "output": "#### 4"}),
        line("correct", {"output": "#### 7"}, match="Pears"),
        line("correct", {"output": "#### 4"}, match="Figs"),
        line("answer", "#### 7", match="Pears"),
        line("answer", "#### 4"),
    ]
    with Verifier(SUMS.answer) as own:
        found = write_with(tmp_path, SUMS, script, verifier=own, samples=2, targen__labels="free", **SMALL)
    assert [sample.steps for sample in found.samples] == [
        {"context": "market", "seed": "Pears cost 3."},
        {"context": "market", "seed": "Figs cost 4."},
    ]
    assert "has exactly one right answer" in " ".join(found.prompts("constrain")[0].split())


def test_without_contexts_nothing_else_is_asked(tmp_path: Path, verifier: Verifier) -> None:
    with pytest.raises(InstructorError) as stop:
        write_with(tmp_path, CLAIMS, [line("contexts", "I'm sorry, I can't.")], samples=2, verifier=verifier, **SMALL)
    assert "named no contexts for targen: contexts: no list: I'm sorry, I can't." in str(stop.value)
    assert "--set synthesize.method=knowledge-guided" in str(stop.value)


def test_nothing_is_asked_twice_and_the_same_comes_again(made: Made, tmp_path: Path, verifier: Verifier) -> None:
    first = write_with(tmp_path, CLAIMS, SCRIPT, samples=9, max_draft_factor=1.5, verifier=verifier, **SMALL)
    again = write_with(tmp_path, CLAIMS, SCRIPT, samples=9, max_draft_factor=1.5, verifier=verifier, **SMALL)
    assert (again.samples, again.drops) == (first.samples, first.drops) == (made.samples, made.drops)
    assert again.spending.calls == first.spending.calls

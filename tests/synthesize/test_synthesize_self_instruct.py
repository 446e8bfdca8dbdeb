"""Self-Instruct step by step: prompts from a growing pool, the ROUGE-L filter, instances of two kinds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from synthesizer_runs import CLAIMS, SUMS, Made, line, write_with

from taskdef.records import Demo
from taskdef.verify.isolated import Verifier

SMALL = {
    "method": "self-instruct",
    "self_instruct__examples": 3,
    "self_instruct__machine_examples": 1,
    "self_instruct__new_texts": 2,
    "self_instruct__requests": 2,
}
TEXTS = [
    {"items": ["How many legs have two cows?", "Sum up 20, and then 30!"]},
    {"items": ["How many legs have two cows??", "Give the total of nine plus one."]},  # the first is as before
    {"items": ["Count 8 boats and 9 ships together."]},  # one where two were asked for
    "I'm sorry, I can't.",
]
INSTANCES = [
    {"input": "Two cows have how many legs in all?", "output": "4 + 4\n#### 8"},
    {"input": "Add 20 to 30.", "output": "#### 50"},
    {"input": "never asked for", "output": "#### 0"},  # draft 2 was filtered
    {"input": "9 + 1?", "output": "9 + 1?"},
    {"input": "8 boats, 9 ships: how many?", "output": "#### 17"},
]
SCRIPT = [
    line("bootstrap", *TEXTS),
    line("instance", *INSTANCES),
    line("answer", "#### 8", match="cows"),
    line("answer", "#### 50", match="20"),
    line("answer", "#### 17", match="boats"),
]


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(SUMS.answer) as verifier:
        yield verifier


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, verifier: Verifier) -> Made:
    return write_with(tmp_path_factory.mktemp("run"), SUMS, SCRIPT, samples=4, verifier=verifier, **SMALL)


def examples(prompt: str) -> list[str]:
    """The numbered texts of a bootstrapping prompt."""
    listed = prompt.split("<material-")[1]
    return [row.partition(". ")[2] for row in listed.splitlines()[1:] if row[:1].isdigit()]


def test_the_first_prompts_hold_demos_only_and_later_ones_a_machine_made_text_beside_them(made: Made) -> None:
    demos = {demo.input for demo in SUMS.demos}
    prompts = [examples(prompt) for prompt in made.prompts("bootstrap")]
    assert [set(shown) for shown in prompts[:2]] == [demos, demos]  # the pool's first turn: no more than the demos
    for shown in prompts[2:]:
        assert len(shown) == 3
        (machine_made,) = set(shown) - demos
        assert machine_made in {
            "How many legs have two cows?",
            "Sum up 20, and then 30!",
            "Give the total of nine plus one.",
        }


def test_published_sizes_are_six_demos_and_two_machine_made_texts(tmp_path: Path, verifier: Verifier) -> None:
    demos = tuple(Demo(input=f"demo{n} only{n} words{n}", output="#### 1") for n in range(20))
    texts = [{"items": [f"new{n}x{m} text{n}x{m}" for m in range(8)]} for n in range(10)]
    instances = [{"input": f"in{n} put{n}", "output": "#### 1"} for n in range(60)]
    script = [line("bootstrap", *texts), line("instance", *instances), line("answer", "#### 1")]
    definition = SUMS.model_copy(update={"demos": demos})
    found = write_with(tmp_path, definition, script, samples=50, method="self-instruct", verifier=verifier)
    shown = [examples(prompt) for prompt in found.prompts("bootstrap")]
    assert [sum(text.startswith("demo") for text in texts) for texts in shown] == [8] * 5 + [6] * 5
    assert [sum(text.startswith("new") for text in texts) for texts in shown] == [0] * 5 + [2] * 5


def test_a_text_too_much_like_the_pool_is_dropped_and_no_instance_asked_for_it(made: Made) -> None:
    assert ("s00002", "too_similar") in made.dropped()
    detail = next(drop.detail for drop in made.drops if drop.id == "s00002")
    assert detail.startswith("ROUGE-L 1.00: 'How many legs have two cows??' to 'How many legs have two cows?'")
    assert sum(call["purpose"] == "instance" for call in made.calls) == 4


def test_a_text_that_equals_a_demo_is_dropped(tmp_path: Path, verifier: Verifier) -> None:
    script = [
        line("bootstrap", {"items": [SUMS.demos[1].input, "An entirely other wording of it"]}, {"items": ["x y z w"]}),
        *SCRIPT[1:],
        line("answer", "#### 0"),
    ]
    found = write_with(tmp_path, SUMS, script, samples=2, verifier=verifier, **SMALL)
    assert found.dropped()[0] == ("s00000", "too_similar")


def test_every_text_that_did_not_come_is_a_drop_with_its_reason(made: Made) -> None:
    details = {drop.id: (drop.reason.value, drop.detail) for drop in made.drops}
    assert details["s00005"] == ("unparseable", "bootstrap: 1 came where 2 were asked for")
    assert details["s00006"] == ("unparseable", "bootstrap: no list: I'm sorry, I can't.")
    assert details["s00007"] == details["s00006"]
    assert details["s00003"] == ("unparseable", "the output repeats the input: 9 + 1?")
    assert len(made.samples) + len(made.drops) == 8


def test_where_answers_are_open_the_input_is_written_first(made: Made) -> None:
    prompt = made.prompts("instance")[0]
    assert "Write the input first" in prompt
    assert "settled first" not in prompt
    assert [(sample.id, sample.answer, sample.steps) for sample in made.samples] == [
        ("s00000", "8", {"instruction": "How many legs have two cows?"}),
        ("s00001", "50", {"instruction": "Sum up 20, and then 30!"}),
        ("s00004", "17", {"instruction": "Count 8 boats and 9 ships together."}),
    ]


def test_for_classification_the_label_is_settled_first_each_in_turn(tmp_path: Path) -> None:
    definition = CLAIMS.model_copy(update={"demos": (Demo(input="It rains. Claim: wet", output="supported"),)})
    labels = CLAIMS.answer.choices
    script = [
        line("bootstrap", {"items": ["a sunny day", "big cat"]}, {"items": ["red house", "old tale here"]}),
        *(
            line(
                "instance", {"input": f"about {label}", "output": f"<answer>{label}</answer>"}, match=f"first: {label}"
            )
            for label in labels
        ),
        *(line("answer", f"<answer>{label}</answer>", match=f"about {label}") for label in labels),
    ]
    with Verifier(CLAIMS.answer) as own:
        found = write_with(tmp_path, definition, script, verifier=own, samples=3, **SMALL)
    assert [(sample.answer, sample.steps["label"]) for sample in found.samples] == [(label, label) for label in labels]
    assert "Write an input in keeping with the idea" in found.prompts("instance")[0]


def test_nothing_is_asked_twice_and_the_same_comes_again(made: Made, tmp_path: Path, verifier: Verifier) -> None:
    first = write_with(tmp_path, SUMS, SCRIPT, samples=4, verifier=verifier, **SMALL)
    again = write_with(tmp_path, SUMS, SCRIPT, samples=4, verifier=verifier, **SMALL)
    assert (again.samples, again.drops) == (first.samples, first.drops) == (made.samples, made.drops)
    assert again.spending.calls == first.spending.calls
    assert again.spending.reused == len(first.calls)

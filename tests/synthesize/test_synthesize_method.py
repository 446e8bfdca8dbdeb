"""Which method writes the drafts: what each needs, said before anything is asked; and the calls a plan counts."""

import sys
from pathlib import Path

import pytest
from synthesizer_runs import CLAIMS, SUMS

from taskdef.cli import main
from taskdef.config import SynthesizeConfig, build_config
from taskdef.errors import ConfigError, InstructorError
from taskdef.instruct.procedural import ProceduralInstructor
from taskdef.instruct.writing import writing_calls
from taskdef.records import PassageSource, TaskDefinition
from taskdef.synthesize.method import refuse_unfit_method, refuse_unfit_run

BARE = SUMS.model_copy(update={"demos": ()})


@pytest.mark.parametrize(
    ("definition", "method", "settings", "why", "remedy"),
    [
        (BARE, "self-instruct", {}, "starts from demos, and sums has none", "give the task some (demos:)"),
        (SUMS, "targen", {}, "one of the task's labels, and sums has none", "synthesize.targen.labels=free"),
        (SUMS, "synthllm", {}, "from passages, and there are none for sums", "--passages PATH"),
        (
            SUMS.model_copy(update={"passages": (PassageSource(path=Path("library")),)}),
            "synthllm",
            {"retrieve.method": "none"},
            "from passages, and there are none for sums",
            "a retrieve.method but none",
        ),
        (SUMS, "self-instruct", {"instructor": "procedural:gcd"}, "is a program", "--instructor openai:MODEL"),
    ],
)
def test_what_a_method_needs_is_asked_for_first(
    definition: TaskDefinition, method: str, settings: dict[str, object], why: str, remedy: str
) -> None:
    config = build_config(overrides={"synthesize.method": method, "instructor": "openai:gpt-4o", **settings})
    with pytest.raises(ConfigError) as refusal:
        refuse_unfit_run(definition, config)
    assert refusal.value.message.startswith(f"synthesize.method={method}: ")
    assert why in refusal.value.message
    assert remedy in (refusal.value.next_step or "")


@pytest.mark.parametrize(
    ("definition", "method", "settings"),
    [
        (BARE, "knowledge-guided", {"instructor": "procedural:gcd"}),
        (SUMS, "self-instruct", {}),
        (CLAIMS, "targen", {}),
        (BARE, "targen", {"synthesize.targen.labels": "free"}),
        (BARE.model_copy(update={"passages": (PassageSource(path=Path("library")),)}), "synthllm", {}),
    ],
)
def test_a_method_that_has_what_it_needs_is_taken(
    definition: TaskDefinition, method: str, settings: dict[str, object]
) -> None:
    config = build_config(overrides={"synthesize.method": method, "instructor": "openai:gpt-4o", **settings})
    refuse_unfit_run(definition, config)


def test_retrieval_that_found_nothing_is_noticed_before_concepts_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="takes its concepts from passages"):
        refuse_unfit_method(SUMS, SynthesizeConfig(method="synthllm"), has_library=False, is_program=False)


def test_a_program_says_that_it_answers_no_prompts() -> None:
    step = ProceduralInstructor("gcd", seed=0).complete(SUMS, "contexts", "Name some.", schema={}, temperature=0.7)
    with pytest.raises(InstructorError) as refusal:
        step.send(None)
    assert str(refusal.value) == (
        "procedural:gcd: is a program, and cannot be asked in words for contexts\n"
        "  next: --set synthesize.method=knowledge-guided, or a language model: --instructor openai:MODEL"
    )


@pytest.mark.parametrize(
    ("settings", "drafts", "calls"),
    [
        ({}, 1000, {"generate": 1000}),
        ({"method": "self-instruct"}, 1, {"bootstrap": 5, "instance": 1}),
        ({"method": "self-instruct"}, 41, {"bootstrap": 10, "instance": 41}),  # 5 x 8 texts a turn
        ({"method": "targen"}, 3, {"contexts": 1, "seeds": 3, "constrain": 3, "correct": 3}),
        ({"method": "targen"}, 205, {"contexts": 1, "seeds": 25, "constrain": 205, "correct": 205}),  # 20 x 10, 5 more
        ({"method": "synthllm"}, 3, {"concepts": 40, "questions": 3, "solve": 3}),
        ({"method": "synthllm"}, 31, {"concepts": 40, "questions": 3 + 2 + 4, "solve": 31}),  # 11, 10 and 10 of a level
        ({"method": "synthllm", "synthllm": {"level": 1}}, 31, {"concepts": 0, "questions": 7, "solve": 31}),
    ],
)
def test_the_calls_of_so_many_drafts(settings: dict[str, object], drafts: int, calls: dict[str, int]) -> None:
    assert writing_calls(SynthesizeConfig.model_validate(settings), drafts, passages=40) == calls


TASK = """\
name: claims
description: Is the claim true?
output_format: Answer in <answer> tags.
answer: {read: tag, compare: choice, choices: ["yes", "no"]}
demos:
  - {input: "Is rain wet?", output: "<answer>yes</answer>"}
"""


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            ["synthesize.method=self-instruct"],
            "self-instruct: at most 125 bootstrap, 1,000 instance calls for the drafts",
        ),
        (
            ["synthesize.method=targen"],
            "targen: at most 1 contexts, 100 seeds, 1,000 constrain, 1,000 correct calls for the drafts",
        ),
        ([], "1 instructor call for the demos' pattern"),
    ],
)
def test_a_dry_run_names_the_calls_of_the_method(
    more: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "task.yaml").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    settings = [word for setting in more for word in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["taskdef", "run", "task.yaml", "--dry-run", *settings])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert line in [text.strip() for text in capsys.readouterr().out.splitlines()]
    assert {path.name for path in tmp_path.iterdir()} == {"task.yaml"}

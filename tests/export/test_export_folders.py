"""Folders with cards: their consumers load them, and they tell what must be known and nothing of this machine."""

from pathlib import Path

import pytest
from finished_run import build_finished_run

from taskdef.errors import ConfigError, RunError
from taskdef.export.formats import Choices, export_run
from taskdef.export.provenance import hub_id
from taskdef.records import Stage
from taskdef.store import RunDirectory


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_chat_llama: Path) -> RunDirectory:
    return build_finished_run(tmp_path_factory.mktemp("export") / "sums", model=tiny_chat_llama)


@pytest.fixture(scope="module")
def dataset(run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folders") / "data set"
    export_run(run, "dataset", folder)
    return folder


@pytest.fixture(scope="module")
def model(run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folders") / "model"
    export_run(run, "model", folder)
    return folder


def test_datasets_loads_the_folder(dataset: Path, tmp_path: Path) -> None:
    import datasets

    training = datasets.load_dataset(str(dataset), split="train", cache_dir=tmp_path)
    assert training["id"][:3] == ["s01", "s02", "s03"]
    assert training[0] == {
        "id": "s01",
        "input": "1 + 2?",
        "prompt": "1 + 2?\n\nEnd with #### and the number.",
        "solution": "1 + 2 = 3\n#### 3",
        "answer": "3",
        "origin": "initial",
        "parent_id": None,
        "passage_id": "p1",
        "domain": "small",
        "votes": 4,
        "vote_count": 4,
        "pass_rate": 0.25,
        "attempts": 4,
        "level": None,
    }
    assert datasets.load_dataset(str(dataset), "all", split="train", cache_dir=tmp_path).num_rows == 15


def test_no_passage_and_no_held_out_row_is_given_away(dataset: Path) -> None:
    for file in dataset.rglob("*"):
        if file.is_file():
            assert b"Passage 0" not in file.read_bytes()
            assert b"+ 100?" not in file.read_bytes()


def test_the_data_sets_card_states_counts_drops_and_limits(dataset: Path) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(dataset / "README.md")
    assert card.data.to_dict()["size_categories"] == ["n<1K"]
    assert "license" not in card.data.to_dict()
    for line in (
        "| drafts written | 13 |",
        "| samples after difficulty adaptation | 15 |",
        "| samples in the training set | 8 |",
        "| harder | 3 | 2 |",
        "| synthesize | duplicate | 1 |",
        "| adapt | no rewrite | 1 |",
        "- **Instructor** (wrote inputs, solutions, votes and rewrites): `openai:writer`.",
        "## Limits",
        "None is set: whoever publishes this must choose one.",
        "(test.jsonl) were dropped. A paraphrase would pass.",
    ):
        assert line in card.text, line


def test_the_models_card_states_metrics_with_intervals(model: Path) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(model / "README.md")
    (result,) = card.data.eval_results
    assert (result.metric_value, result.dataset_name, result.dataset_type) == (0.5, "test.jsonl", "local")
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    # 20 of 40: Wilson's interval is 0.5 +- 0.1480 by hand (z = 1.96)
    assert "| Tuned model | 50.0% (35.2% to 64.8%) | 50.0% (35.2% to 64.8%) | 8 |" in card.text
    assert "| Tuned model (strict) against Base model (lenient) | +25.0 |" in card.text
    assert "Held-out inputs found among the 8 inputs of training: 0." in card.text
    assert "- 40 held-out rows are few: mind the intervals." in card.text


def test_cards_tell_nothing_of_this_machine(dataset: Path, model: Path) -> None:
    for folder in (dataset, model):
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert not [word for word in ("/home", "secret", "10.0.0.7", "/tmp", "8000") if word in text]


def test_a_run_on_human_rows_does_not_pass_for_synthetic(tmp_path: Path, tiny_llama: Path) -> None:
    file = {"synthesize.human.file": str(tmp_path / "people.jsonl")}
    run = build_finished_run(tmp_path / "human", model=tiny_llama, **file)
    with pytest.raises(RunError, match=r"its samples are rows of people\.jsonl, which people made") as raised:
        export_run(run, "dataset", tmp_path / "data set")
    assert "--to prompt-completion FILE" in str(raised.value.next_step)
    export_run(run, "model", tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "on examples made by people, the rows of people.jsonl" in card
    assert "- **Data**: 8 rows of people.jsonl, out of 15:" in card
    assert "synthetic-data" not in card
    assert "without human labels" not in card
    assert str(tmp_path) not in card


def test_transformers_loads_the_model_folder(model: Path, run: RunDirectory) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoTokenizer.from_pretrained(model).chat_template
    assert AutoModelForCausalLM.from_pretrained(model).config.hidden_size == 32
    assert sorted(p.name for p in model.iterdir()) == sorted([*(p.name for p in run.model_path.iterdir()), "README.md"])


def test_a_run_that_was_not_evaluated_says_so(tmp_path: Path, tiny_llama: Path) -> None:
    run = build_finished_run(tmp_path / "sums", model=tiny_llama, until=Stage.TRAIN)
    export_run(run, "model", tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "**Nothing yet**: this run was not evaluated on held-out rows." in text
    assert "model-index" not in text


def test_without_a_model_there_is_no_model_folder(tmp_path: Path) -> None:
    run = build_finished_run(tmp_path / "sums")
    with pytest.raises(RunError, match=r"the tuned model is gone\n  next: taskdef run .* --fresh train"):
        export_run(run, "model", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
        ("builtin:smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("/data/models/mine", None),
        ("./models/mine", None),
        ("mine", None),
    ],
)
def test_a_base_model_is_named_by_its_hub_id_or_not_at_all(name: str, expected: str | None) -> None:
    assert hub_id(name) == expected


@pytest.mark.parametrize(
    ("repository", "token", "message"),
    [
        ("nonsense", "x", "--push nonsense: no name of a repository\n  next: --push OWNER/NAME"),
        (
            "me/sums",
            " ",
            "--push me/sums: no token in the environment\n  next: export HF_TOKEN=… with a token that may write",
        ),
    ],
)
def test_a_push_that_cannot_be_is_refused_before_anything_is_written(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: str, token: str, message: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    with pytest.raises(ConfigError) as raised:
        export_run(run, "dataset", tmp_path / "data", Choices(push=repository))
    assert str(raised.value) == message
    assert not (tmp_path / "data").exists()

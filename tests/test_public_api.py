"""The public names, as a list: whoever changes it says so here."""

import subprocess
import sys
from pathlib import Path

import pytest

import taskdef


def test_exported_names() -> None:
    assert taskdef.__all__ == [
        "RunConfig",
        "Stage",
        "TaskDefinition",
        "TaskdefError",
        "Verifier",
        "__version__",
        "adapt_difficulty",
        "build_config",
        "evaluate_models",
        "load_definition",
        "load_instructor",
        "load_pack",
        "load_policy",
        "render_report",
        "retrieve_passages",
        "run",
        "select_samples",
        "synthesize_samples",
        "train_policy",
    ]


def test_every_exported_name_is_there() -> None:
    for name in taskdef.__all__:
        assert getattr(taskdef, name) is not None, name


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    assert not hasattr(taskdef, "no_such_name")


def test_importing_the_package_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'pandas', 'pyarrow', 'trl'}"
    code = f"import sys, taskdef, taskdef.cli; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_run_needs_no_more_than_a_definition_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    definition = taskdef.load_pack("gsm8k").model_copy(update={"passages": (), "name": "sums"})
    config = taskdef.build_config(overrides={"instructor": "procedural:chain_sum"})
    run = taskdef.run(definition, config, until=taskdef.Stage.RETRIEVE)
    assert run.path == Path("runs") / "sums"
    assert (tmp_path / "runs" / "sums" / "run.yaml").exists()

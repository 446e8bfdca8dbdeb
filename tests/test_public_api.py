"""The public names, as a list: whoever changes it says so here."""

import subprocess
import sys

import taskdef


def test_exported_names() -> None:
    assert taskdef.__all__ == [
        "RunConfig",
        "TaskDefinition",
        "TaskdefError",
        "__version__",
        "adapt_difficulty",
        "evaluate_models",
        "load_definition",
        "load_pack",
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

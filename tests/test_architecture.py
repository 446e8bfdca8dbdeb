"""The walls: stages import shared modules only; nothing evaluates text as code or pickles."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "taskdef"
FILES = sorted(SOURCE.rglob("*.py"))
STAGES = {"definition", "retrieve", "synthesize", "adapt", "select", "train", "evaluate", "report"}
SHARED = {
    "instruct",
    "policy",
    "verify",
    "screen",
    "records",
    "config",
    "errors",
    "store",
    "progress",
    "readable",
    "unicode",
    "hub",
    "__version__",
}
ABOVE = {"analyze", "audit.py", "cli.py", "compare", "export", "pipeline.py", "preview", "request.py"}
MAY_IMPORT_STAGES = ABOVE | {"__init__.py"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def imports(file: Path) -> set[str]:
    """Dotted names of all that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms(file: Path) -> set[str]:
    """The rooms of taskdef (folders and single files) that a file imports from."""
    return {name.split(".")[1] for name in imports(file) if name.startswith("taskdef.")}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_import_shared_modules_only(stage: str) -> None:
    for file in (SOURCE / stage).rglob("*.py"):
        assert rooms(file) <= SHARED | {stage}, file


def test_only_what_stands_above_the_stages_imports_them() -> None:
    for file in FILES:
        room = file.relative_to(SOURCE).parts[0]
        if room not in MAY_IMPORT_STAGES | STAGES:
            assert not rooms(file) & STAGES, file


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_text_is_run_as_code_and_nothing_is_pickled(file: Path) -> None:
    assert not {name.split(".")[0] for name in imports(file)} & FORBIDDEN_MODULES
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS, f"{file}:{node.lineno}"
            if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                assert (node.func.value.id, node.func.attr) != ("torch", "save"), f"{file}:{node.lineno}"

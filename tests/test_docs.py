"""README.md and docs/ say what is: commands parse, definitions load, links and the tree's paths exist."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from taskdef.cli import app
from taskdef.config import build_config
from taskdef.definition.load import load_definition
from taskdef.instruct.scripted import ScriptedEndpoint
from taskdef.records import AnswerReading
from taskdef.request import read_settings
from taskdef.verify.read import read_answer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)")


def blocks(language: str) -> list[Any]:
    """Every fenced block of a language, named by its page."""
    return [
        pytest.param(match[2], id=f"{page.name}-{number}")
        for page in PAGES
        for number, match in enumerate(FENCE.finditer(page.read_text(encoding="utf-8")))
        if match[1] == language
    ]


def commands() -> list[Any]:
    """Every ``taskdef`` command line in shell blocks and in inline code."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shell = "\n".join(match[2] for match in FENCE.finditer(text) if match[1] == "bash").replace("\\\n", " ")
        inline = re.findall(r"`(taskdef [^`]*)`", FENCE.sub("", text))
        lines = [line.strip() for line in shell.splitlines()] + [" ".join(line.split()) for line in inline]
        found += [pytest.param(line, id=f"{page.name}: {line[:60]}") for line in lines if line.startswith("taskdef ")]
    return found


@pytest.mark.parametrize("line", commands())
def test_every_command_is_understood(line: str) -> None:
    verb, *words = shlex.split(line, comments=True)[1:]
    if verb == "--help":
        return
    command = typer.main.get_command(app).commands[verb]
    if not words:  # the verb alone, as a sentence names it
        return
    given = command.make_context(verb, words).params
    if verb == "run":
        files = [ROOT / given["config"]] if given["config"] else []
        build_config(profile=given["profile"], files=files, overrides=dict(read_settings(given["settings"] or [])))
        instructor = given["instructor"] or "openai:MODEL"
        assert instructor.split(":")[0] in {"openai", "procedural", "scripted"}


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_task_definition_loads_and_reads_its_demos(block: str, tmp_path: Path) -> None:
    """A block without a name is a part of a definition: it shows output format, answer and a demo."""
    head = "" if "name" in yaml.safe_load(block) else "name: part\ndescription: A part of a definition.\n"
    (tmp_path / "task.yaml").write_text(head + block, encoding="utf-8")
    definition = load_definition(tmp_path / "task.yaml")
    if definition.answer.read is not AnswerReading.FUNCTION:
        assert all(read_answer(definition.answer, demo.output) for demo in definition.demos)


def test_every_way_to_read_an_answer_has_an_example() -> None:
    text = (ROOT / "docs" / "task-definition.md").read_text(encoding="utf-8")
    assert {reading.value for reading in AnswerReading} <= set(re.findall(r"^  read: (\w+)", text, re.MULTILINE))


@pytest.mark.parametrize("block", blocks("json"))
def test_every_script_of_recorded_answers_is_one(block: str, tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text(block, encoding="utf-8")
    ScriptedEndpoint(tmp_path / "answers.jsonl")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def tree() -> list[Path]:
    """The paths of the README's tree, relative to the root."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Where things are\n")[2].partition("\n## ")[0]
    folders: dict[int, Path] = {}
    paths = []
    for line in filter(str.strip, section.splitlines()):
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        path = folders.get(indent - 2, Path()) / name
        if name.endswith("/"):
            folders[indent] = path
        paths.append(path)
    return paths


def test_the_tree_in_the_readme_is_the_tree_on_disk() -> None:
    paths = tree()
    assert [path for path in paths if not (ROOT / path).exists()] == []
    source = {path.relative_to(ROOT) for path in (ROOT / "src").rglob("*.py") if path.name != "__init__.py"}
    assert sorted(source - set(paths)) == [], "in src/taskdef, but not in the README's tree"


@pytest.mark.parametrize("block", blocks("python"))
def test_python_examples_import_what_is_there(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("taskdef"):
            module = importlib.util.find_spec(node.module or "")
            assert module is not None
            assert module.origin is not None
            source = Path(module.origin).read_text(encoding="utf-8")
            for name in node.names:
                assert re.search(rf"^(?:def|class|async def) {name.name}\b", source, re.MULTILINE), name.name
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "taskdef":
            import taskdef

            assert node.attr in taskdef.__all__

"""What the command line asks for, resolved: the definition, the settings and the run's directory."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taskdef.config import RunConfig, build_config
from taskdef.definition.load import LoadedDefinition
from taskdef.definition.packs import resolve_loaded
from taskdef.errors import ConfigError, LibraryError, RunError, TestSetError
from taskdef.records import PassageSource, Stage, TaskDefinition
from taskdef.store import RUN_FILE, RunDirectory
from taskdef.synthesize.method import refuse_unfit_run


@dataclass(frozen=True)
class RunRequest:
    """What the command line asks for, resolved."""

    loaded: LoadedDefinition
    """The definition, with file and line of its parts where it was read from a file."""
    config: RunConfig
    path: Path
    """The run's directory; it need not exist yet."""
    fresh: Stage | None = None
    until: Stage | None = None

    @property
    def definition(self) -> TaskDefinition:
        return self.loaded.definition

    @property
    def preview_path(self) -> Path:
        """The ledger of previews of this run."""
        return RunDirectory(self.path, self.definition, self.config).preview_path

    @property
    def is_new(self) -> bool:
        return not (self.path / RUN_FILE).exists()


def resolve_request(
    task: str,
    *,
    runs_dir: Path,
    name: str | None,
    profile: str | None,
    config_file: Path | None,
    overrides: Mapping[str, Any],
    test: Path | None,
    passages: Sequence[Path],
    fresh: Stage | None = None,
    until: Stage | None = None,
) -> RunRequest:
    """Find the definition, the settings and the directory of a run; nothing is created.

    ``task`` is an existing run's directory (its own definition and settings then hold, with what is given here on
    top), a folder with a task.yaml, a task.yaml, or a pack's name.
    Raises DefinitionError, ConfigError, TestSetError, LibraryError or RunError; ConfigError also where the method of
    synthesize needs what the task does not have.
    """
    files = [config_file] if config_file is not None else []
    if (Path(task) / RUN_FILE).is_file():
        run = open_run(Path(task))
        own = {"name": name, "profile": profile, "test": test, "passages": passages or None}
        if given := [f"--{option}" for option, value in own.items() if value is not None]:
            raise ConfigError(
                f"{task}: is a run, which has its own; given: {', '.join(given)}",
                next_step=f"taskdef run {shlex.quote(task)} goes on as it was begun; a new run starts from a TASK",
            )
        loaded, path = LoadedDefinition(run.definition), run.path
        config = build_config(files=files, overrides=dict(overrides), base=run.config)
    else:
        if test is not None and not test.expanduser().is_file():
            raise TestSetError(f"--test {test}: no such file", next_step="give a file of JSON lines, or leave it out")
        if missing := [str(library) for library in passages if not library.expanduser().exists()]:
            raise LibraryError(
                f"--passages {missing[0]}: no such file or folder", next_step="give a file or folder of passages"
            )
        loaded = resolve_loaded(task, test)
        path = runs_dir / _checked_name(name or loaded.definition.name)
        config = build_config(profile=profile, files=files, overrides=dict(overrides))
        if passages:
            sources = tuple(PassageSource(path=library.expanduser().resolve()) for library in passages)
            loaded = replace(loaded, definition=loaded.definition.model_copy(update={"passages": sources}))
    refuse_unfit_run(loaded.definition, config)
    request = RunRequest(loaded, config, path, fresh, until)
    if fresh is None and not request.is_new:
        open_run(path).refuse_changes(request.definition, config)
    return request


def try_instructor(config: RunConfig) -> None:
    """Set the instructor up once, as a run will; no request is sent.

    Raises InstructorError (no key, an unknown form or generator) before anything is created.
    """
    from taskdef.instruct.load import load_instructor

    instructor = load_instructor(config.instructor, ledger_path=None, config=config.instruct, seed=config.seed)
    asyncio.run(instructor.close())


def try_base_model(config: RunConfig, definition: TaskDefinition) -> None:
    """Look at the base model without its weights: it is first needed when the instructor has been paid for long since.

    Raises BaseModelError where there is no such model, the device asked for is not there, or its context has no room
    for a prompt; TestSetError where a row of a local test set is too long for it.
    """
    from taskdef.definition.testset import read_raw_rows
    from taskdef.policy.load import refuse_unfit_model

    is_local = definition.test is not None and definition.test.path is not None
    rows = read_raw_rows(definition, config.evaluate.limit) if is_local else []
    refuse_unfit_model(config.base_model, definition, config.policy, [(row.place, row.input) for row in rows])


def open_run(path: Path) -> RunDirectory:
    """Open a run given by its directory. Raises RunError, with the likely directory where only the name was given."""
    likely = Path("runs") / path
    try:
        if not (path / RUN_FILE).is_file() and (likely / RUN_FILE).is_file():
            raise RunError(
                f"{path}: not a run (no {RUN_FILE})", next_step=f"give its directory: {shlex.quote(str(likely))}"
            )
        return RunDirectory.open(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be opened as a run: {error.strerror}", next_step="give its directory") from None


def read_settings(pairs: Sequence[str]) -> dict[str, str]:
    """``key=value`` texts as dotted overrides. Raises ConfigError for a text without ``=``."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {pair}: expected KEY=VALUE", next_step="for instance --set select.size=200")
        settings[key.strip()] = value.strip()
    return settings


def _checked_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ConfigError(f"--name {name}: a run's name is one folder's name", next_step="--runs-dir DIR --name NAME")
    return name

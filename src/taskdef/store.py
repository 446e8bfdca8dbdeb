"""The run directory: artifacts, manifests, and the rule for going on.

A stage is done when its ``manifest.json`` stands. It is written last: to a temporary file, flushed to disk, renamed;
so a kill at any moment leaves either a finished stage or one that is started again. Inside a stage, long work is
appended line by line (``append_records``) and read back tolerating a torn last line (``read_partial``).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from taskdef import __version__
from taskdef.config import RunConfig, digest, flatten, parse_config
from taskdef.errors import ConfigError, RunError
from taskdef.records import Manifest, Stage, TaskDefinition

RecordType = TypeVar("RecordType", bound=BaseModel)

STAGES = tuple(Stage)
MANIFEST = "manifest.json"
RUN_FILE = "run.yaml"
LOCK_FILE = ".lock"
FAULT_FILE = "fault.json"
"""In the folder of a stage that ended for want of memory, until it is taken up again: the sentence and the remedy."""

STAGE_SETTINGS: dict[Stage, tuple[str, ...]] = {
    Stage.RETRIEVE: ("instructor", "instruct.max_tokens", "seed", "retrieve"),
    Stage.SYNTHESIZE: ("instruct.force_form", "synthesize", "verify"),
    Stage.ADAPT: ("base_model", "policy", "warm_up", "adapt"),
    Stage.SELECT: ("select",),
    Stage.TRAIN: ("train",),
    Stage.EVALUATE: ("evaluate",),
}
"""The settings (or parts) that first matter in each stage; a stage depends on its own and all earlier ones.
The rest of ``instruct`` is in none: it says how calls are made, never what comes back."""


_MAY_HOLD_A_SECRET = re.compile(r"@[a-z]+://(?:[^/]*@|.*[?#])", re.IGNORECASE)

MEMORY_SETTINGS = ("policy.batch_tokens", "train.micro_batch")
"""Settings that bound memory, in no stage either: a run that ran out of it goes on with smaller ones. What is drawn
after that is drawn in other batches, no less by chance."""


class StageDirectory:
    """The files of one stage inside a run."""

    def __init__(self, run: RunDirectory, stage: Stage) -> None:
        self.run = run
        self.stage = stage
        self.path = run.path / f"{STAGES.index(stage) + 1}-{stage.value}"

    def open(self) -> None:
        """Make the folder. What an interrupted earlier start left stays, for the stage to go on from."""
        self.path.mkdir(parents=True, exist_ok=True)

    def is_done(self) -> bool:
        return (self.path / MANIFEST).exists()

    def manifest(self) -> Manifest:
        """The stage's manifest. Raises RunError where the stage is not done or the file is damaged."""
        try:
            return Manifest.model_validate_json((self.path / MANIFEST).read_bytes())
        except FileNotFoundError:
            raise RunError(
                f"{self.run.path}: the stage {self.stage.value} has not been run",
                next_step=f"taskdef run {self.run.quoted_path}",
            ) from None
        except ValidationError as error:
            raise RunError(
                f"{self.path / MANIFEST}: damaged: {error.errors()[0]['msg']}",
                next_step=f"taskdef run {self.run.quoted_path} --fresh {self.stage.value}",
            ) from None

    def write_records(self, name: str, records: Iterable[BaseModel]) -> None:
        """Write one JSONL artifact, atomically."""
        write_atomically(self.path / name, "".join(record.model_dump_json() + "\n" for record in records))

    @contextmanager
    def stream_records(self, name: str) -> Iterator[Callable[[BaseModel], None]]:
        """Write one JSONL artifact record by record, in flat memory; it stands under its name at the end, or not."""
        temporary = self.path / f".{name}.{os.getpid()}.tmp"
        try:
            with temporary.open("w", encoding="utf-8") as file:
                yield lambda record: print(record.model_dump_json(), file=file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / name)
        finally:
            temporary.unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        """Write one JSON artifact, atomically."""
        write_atomically(self.path / name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def append_records(self, name: str, records: Iterable[BaseModel]) -> None:
        """Append to a JSONL file and flush it to disk: work that a later start need not repeat."""
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write("".join(record.model_dump_json() + "\n" for record in records))
            file.flush()
            os.fsync(file.fileno())

    def read_partial(self, name: str, kind: type[RecordType]) -> list[RecordType]:
        """The whole lines of a file being appended to; a line torn by a kill is cut off. Empty if there is no file."""
        path = self.path / name
        if not path.exists():
            return []
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) != len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        return [kind.model_validate_json(line) for line in whole.splitlines()]

    def read_records(self, name: str, kind: type[RecordType]) -> list[RecordType]:
        """Read one JSONL artifact of a finished stage. Raises RunError where it is missing or damaged."""
        path = self.path / name
        try:
            return [kind.model_validate_json(line) for line in path.read_bytes().splitlines()]
        except FileNotFoundError:
            raise RunError(
                f"{path}: missing; the stage {self.stage.value} has not been run",
                next_step=f"taskdef {self.stage.value} {self.run.quoted_path}",
            ) from None
        except ValidationError as error:
            raise RunError(
                f"{path}: damaged: {error.errors()[0]['msg']}",
                next_step=f"taskdef run {self.run.quoted_path} --fresh {self.stage.value}",
            ) from None

    def read_json(self, name: str) -> Any:
        """Read one JSON artifact of a finished stage. Raises RunError where it is missing or damaged."""
        path = self.path / name
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            raise RunError(
                f"{path}: missing; the stage {self.stage.value} has not been run",
                next_step=f"taskdef {self.stage.value} {self.run.quoted_path}",
            ) from None
        except ValueError as error:
            raise RunError(
                f"{path}: damaged: {error}",
                next_step=f"taskdef run {self.run.quoted_path} --fresh {self.stage.value}",
            ) from None

    def inputs(self) -> dict[str, str]:
        """Digest of every artifact of all earlier finished stages, by path relative to the run's directory."""
        return {
            f"{earlier.path.name}/{name}": value
            for earlier in self.run.stages()[: STAGES.index(self.stage)]
            if earlier.is_done()
            for name, value in earlier.manifest().outputs.items()
        }

    def finish(self, *, started: float, artifacts: Iterable[str], summary: Mapping[str, Any]) -> Manifest:
        """Write the manifest: from here on the stage is done.

        ``started`` is a ``time.monotonic()`` reading; ``artifacts`` names the stage's own files; the inputs recorded
        are the artifacts of all earlier finished stages.
        """
        manifest = Manifest(
            stage=self.stage,
            taskdef_version=__version__,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - started, 3),
            config_digest=self.run.settings_digest(self.stage),
            inputs=self.inputs(),
            outputs={name: file_digest(self.path / name) for name in artifacts},
            summary=dict(summary),
        )
        write_atomically(self.path / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
        return manifest


class RunDirectory:
    """One run on disk: run.yaml, the ledger, a folder a stage, the model, the report."""

    def __init__(self, path: Path, definition: TaskDefinition, config: RunConfig) -> None:
        self.path = path
        self.definition = definition
        self.config = config

    @classmethod
    def create(cls, path: Path, definition: TaskDefinition, config: RunConfig) -> RunDirectory:
        """Make a new run, or open the existing one if definition and config are the same.

        Settings that change no result (``instruct.timeout_seconds``) may differ: the new values are taken over. Raises
        ConfigError, naming every changed key and the two ways out, where anything else differs.
        """
        if (path / RUN_FILE).exists():
            existing = cls.open(path)
            existing.refuse_changes(definition, config)
            if config != existing.config:
                with existing.locked():
                    existing.config = config
                    existing._write_run_file()
            return existing
        if path.exists() and any(path.iterdir()):
            raise RunError(f"{path}: is not empty and not a run", next_step="choose another name with --name")
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, definition, config)
        run._write_run_file()
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run. Raises RunError where there is none or its run.yaml is damaged."""
        try:
            content = yaml.safe_load((path / RUN_FILE).read_text(encoding="utf-8"))
            return cls(path, TaskDefinition.model_validate(content["definition"]), parse_config(content["config"]))
        except FileNotFoundError:
            raise RunError(f"{path}: not a run (no {RUN_FILE})", next_step="taskdef run task.yaml") from None
        except (yaml.YAMLError, KeyError, TypeError, ValidationError, UnicodeDecodeError) as error:
            raise RunError(f"{path / RUN_FILE}: damaged: {error}", next_step="start a new run") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from working on this run meanwhile; the lock ends with this process at the latest.

        Not re-entrant. Raises RunError, naming the process, where another one holds it.
        """
        with lock_folder(self.path, again=f"taskdef run {self.quoted_path}"):
            yield

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def quoted_path(self) -> str:
        """The path as a shell takes it, for commands to copy."""
        return shlex.quote(str(self.path))

    @property
    def model_path(self) -> Path:
        return self.path / "model"

    @property
    def ledger_path(self) -> Path:
        return self.path / "ledger.sqlite"

    @property
    def preview_path(self) -> Path:
        """The ledger of previews of this run, beside its directory: there is no directory before the run begins."""
        return self.path.with_name(f"{self.path.name}-preview.sqlite")

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def analysis_path(self) -> Path:
        """What ``taskdef analyze`` found."""
        return self.path / "analysis" / "analysis.json"

    def stage(self, stage: Stage) -> StageDirectory:
        return StageDirectory(self, stage)

    def stages(self) -> list[StageDirectory]:
        return [StageDirectory(self, stage) for stage in STAGES]

    def next_stage(self) -> Stage | None:
        """The first stage that is not done; None when all are."""
        return next((directory.stage for directory in self.stages() if not directory.is_done()), None)

    def fresh_from(self, stage: Stage) -> None:
        """Remove this stage's artifacts and all later ones', and an analysis of samples that go with them. The ledger
        stays: what is paid is kept.

        Raises OSError where something cannot be removed: a stage redone over remains would take them for its own.
        """
        for directory in reversed(self.stages()[STAGES.index(stage) :]):
            remove_folder(directory.path)
        if STAGES.index(stage) <= STAGES.index(Stage.TRAIN):
            remove_folder(self.model_path)
        if STAGES.index(stage) <= STAGES.index(Stage.SELECT):
            self.analysis_path.unlink(missing_ok=True)
        self.report_path.unlink(missing_ok=True)

    def reconfigure(self, definition: TaskDefinition, config: RunConfig, *, fresh: Stage) -> None:
        """Take a changed definition or config, starting afresh from ``fresh``.

        Raises ConfigError where a changed setting already mattered in an earlier stage that is kept.
        """
        changed_early = [
            key
            for key in changed_keys(self, definition, config)
            if first_stage(key) is not None and STAGES.index(first_stage(key) or fresh) < STAGES.index(fresh)
        ]
        if changed_early:
            earliest = min((first_stage(key) or fresh for key in changed_early), key=STAGES.index)
            raise ConfigError(
                f"{self.path}: {', '.join(changed_early)} changed, and already mattered before {fresh.value}",
                next_step=f"--fresh {earliest.value}",
            )
        self.fresh_from(fresh)
        self.definition, self.config = definition, config
        self._write_run_file()

    def refuse_changes(self, definition: TaskDefinition, config: RunConfig) -> None:
        """Raise ConfigError where definition or config differ from the run's own in anything that matters."""
        changed = changed_keys(self, definition, config)
        decisive = [key for key in changed if first_stage(key) is not None]
        if not decisive:
            return
        earliest = min((first_stage(key) or Stage.RETRIEVE for key in decisive), key=STAGES.index)
        raise ConfigError(
            f"{self.path}: this run was started with other values of: {', '.join(decisive)}",
            next_step=f"a new run with --name NAME, or --fresh {earliest.value} to redo this one from there",
        )

    def settings_digest(self, stage: Stage) -> str:
        """Digest of everything in definition and config that this stage and those before it depend on."""
        return digest({"definition": self.definition.model_dump(mode="json"), "config": self.settings_upto(stage)})

    def settings_upto(self, stage: Stage, *, without: Sequence[str] = ()) -> dict[str, Any]:
        """The settings that this stage and those before it depend on, but for some keys or whole parts."""
        upto = STAGES.index(stage)
        return {
            key: value
            for key, value in flatten(self.config).items()
            if (first := first_stage(key)) is not None
            and STAGES.index(first) <= upto
            and not any(key == left or key.startswith(left + ".") for left in without)
        }

    def _write_run_file(self) -> None:
        """Raises ConfigError, and writes nothing, where the instructor's address holds what may be a secret."""
        if _MAY_HOLD_A_SECRET.search(self.config.instructor):
            raise ConfigError(
                "instructor: the address holds a user name, a password or a query, which would be recorded",
                next_step="give the plain address, and the key in the environment",
            )
        content = {
            "taskdef_version": __version__,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "definition": self.definition.model_dump(mode="json"),
            "config": self.config.model_dump(mode="json"),
        }
        write_atomically(self.path / RUN_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def changed_keys(run: RunDirectory, definition: TaskDefinition, config: RunConfig) -> list[str]:
    """Dotted keys (``definition.…`` or a setting) whose value differs from the run's own."""
    ours, theirs = run.definition.model_dump(mode="json"), definition.model_dump(mode="json")
    keys = [f"definition.{key}" for key in ours if ours[key] != theirs[key]]
    mine, given = flatten(run.config), flatten(config)
    return keys + [key for key in mine if mine[key] != given[key] and key != "profile"]


def first_stage(key: str) -> Stage | None:
    """The first stage a key matters in; None for keys that change no result. The definition matters from the start."""
    if key == "definition.test":
        return Stage.SYNTHESIZE  # test inputs are kept out of the samples from there on
    if key.startswith("definition."):
        return Stage.RETRIEVE
    if key in MEMORY_SETTINGS:
        return None
    for stage, prefixes in STAGE_SETTINGS.items():
        if any(key == prefix or key.startswith(prefix + ".") for prefix in prefixes):
            return stage
    return None


@contextmanager
def lock_folder(path: Path, *, again: str) -> Iterator[None]:
    """Keep every other process from working in a folder meanwhile; the lock ends with this process at the latest.

    Raises RunError, naming the process and the command to repeat, where another one holds it.
    """
    descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            raise RunError(
                f"{path}: is being worked on by another process{f' ({holder})' if holder else ''}",
                next_step=f"wait until it ends, or stop it, then: {again}",
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Write to a neighbour, flush to disk, rename: readers see the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(path: Path) -> None:
    """Remove a folder where there is one: renamed first, so that a kill half-way leaves nothing under its name.

    What an earlier removal left behind goes too. Raises OSError where something cannot be removed.
    """
    removed = path.with_name(f".{path.name}.removed")
    if removed.exists():
        shutil.rmtree(removed)
    if path.exists():
        path.rename(removed)
        shutil.rmtree(removed)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

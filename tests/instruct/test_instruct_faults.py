"""A run against a server that goes wrong in every way ends with the dataset of a server that does not."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fault_server import FAULTS, Teacher, teaching

import taskdef
from taskdef.config import build_config
from taskdef.instruct.openai_compatible import KEY_VARIABLE
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, PassageSource, Stage, TaskDefinition
from taskdef.store import RunDirectory

KEY = "sk-planted-51f0c2d7e8b94a"


def run(teacher: Teacher, folder: Path, name: str, samples: int, **instruct: object) -> RunDirectory:
    library = folder / "library.jsonl"
    if not library.exists():
        library.write_text(
            "".join(
                json.dumps({"text": f"Number {n} is here, among the numbers."}) + "\n" for n in range(samples + 20)
            ),
            encoding="utf-8",
        )
    definition = TaskDefinition(
        name="sums",
        description="Add numbers.",
        output_format="#### and the number",
        answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
        passages=(PassageSource(path=library),),
    )
    overrides = {
        "instructor": f"openai:m@{teacher.url}",
        "synthesize.samples": samples,
        "synthesize.votes": 4,
        "instruct.max_tokens": 200,
        "instruct.first_byte_timeout_seconds": 0.5,
    }
    config = build_config(overrides={**overrides, **{f"instruct.{key}": value for key, value in instruct.items()}})
    return taskdef.run(definition, config, path=folder / name, until=Stage.SYNTHESIZE)


def dataset(done: RunDirectory) -> bytes:
    return (done.path / "2-synthesize" / "samples.jsonl").read_bytes()


def test_every_fault_is_survived_and_counted_and_no_key_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with teaching() as smooth_teacher:
        smooth = run(smooth_teacher, tmp_path, "smooth", 300)
    with teaching(fault_share=0.2, seed=1) as teacher:
        rough = run(teacher, tmp_path, "rough", 300)
    assert len(dataset(smooth).splitlines()) == 300
    # The address is part of the record of a call, not of a sample.
    assert dataset(rough) == dataset(smooth)
    assert set(teacher.faults) == set(FAULTS)

    expected = Counter[str]()
    for kind, count in teacher.faults.items():
        expected[FAULTS[kind]] += count
    spending = [rough.stage(stage).manifest().summary["spending"] for stage in (Stage.RETRIEVE, Stage.SYNTHESIZE)]
    counted = sum((Counter(spent["faults"]) for spent in spending), Counter())
    assert counted == expected
    report = rough.report_path.read_text(encoding="utf-8")
    line = re.search(r"Faults met on the way to the instructor: ([^<]*)\.</p>", report)
    assert line is not None
    shown = {part.rpartition(" ")[0].replace(" ", "_"): int(part.rpartition(" ")[2]) for part in line[1].split(", ")}
    assert shown == dict(expected)

    assert teacher.authorizations == {f"Bearer {KEY}"}
    for file in [*tmp_path.rglob("*"), *tmp_path.rglob(".*")]:
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file

"""Do taskdef and lm-eval read the same answers in the same completions of GSM8K rows?

    TASKDEF_GSM8K=gsm8k_test.jsonl python benchmarks/lm_eval_agreement.py [--rows 64] [--keep completions.jsonl]

taskdef's strict reading stands beside lm-eval's ``strict-match``, its lenient one beside ``flexible-extract``: filters
and metric are lm-eval's own code with the settings of its gsm8k.yaml. The completions are

- ``model``: a model's own, greedy, on the first rows, by taskdef's sampler under the gsm8k pack's prompt;
- ``gold``: every row's own solution, and ``shifted``: the solution of the row after it;
- ``edge``: written by hand, below.

Rows are JSON lines with `input` and `output`. Prints agreement by kind of completion, then every difference.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import yaml

from taskdef.definition.packs import load_pack
from taskdef.records import Verdict
from taskdef.verify.compare import same_answer
from taskdef.verify.judge import judge
from taskdef.verify.lenient import find_leniently
from taskdef.verify.read import read_answer

EDGE_CASES: tuple[tuple[str, str], ...] = (
    ("18", "She makes $18.\n#### 18"),
    ("18", "#### 18."),
    ("18", "#### $18"),
    ("18", "####18"),
    ("18", "#### 18.0"),
    ("18", "#### 18.00"),
    ("18", "#### 18 dollars"),
    ("18", "#### **18**"),
    ("18", "####: 18"),
    ("18", "#### x = 18"),
    ("18", "#### 20\nThat is wrong.\n#### 18"),
    ("18", "#### 18\nOr was it?\n#### 20"),
    ("18", "The answer is 18."),
    ("18", "The answer is \\boxed{18}."),
    ("18", "The answer is \\boxed{18} after 3 steps."),
    ("18", "The answer is 18, which took 3 steps."),
    ("18", "It is $18.00"),
    ("18", "18%"),
    ("18", "Half of 36 is 36/2"),
    ("18", "It is 18 (eighteen)..."),
    ("18", "Nothing to see here."),
    ("18", ""),
    ("18", "#### "),
    ("18", "#### eighteen"),
    ("1,234", "#### 1234"),
    ("1234", "#### 1,234"),
    ("1234", "#### 1.234"),
    ("0.5", "#### 1/2"),
    ("0.5", "#### .5"),
    ("-4", "#### -4"),
    ("-4", "#### \u22124"),
    ("-4", "#### - 4"),
    ("4", "10-4"),
    ("4", "We get x-4"),
    ("1000", "#### 1e3"),
    ("18", "#### 18, 20"),
    ("18", "Steps: 1. add 2. multiply\n#### 18"),
    ("18", "So 9 x 2 = 18!"),
    ("18", "\\[ x = 18 \\]"),
    ("18", "#### 018"),
)
"""(gold answer, completion)."""


@dataclass(frozen=True)
class Case:
    """A completion and what it is judged by."""

    kind: str
    target: str
    """The row's own output, for lm-eval; its gold answer is read from it."""
    text: str


@dataclass(frozen=True)
class Scores:
    """One completion under one pair of readings."""

    case: Case
    reading: str
    ours: Verdict
    our_answer: str | None
    theirs: bool
    their_answer: str
    same_answer: bool
    """Whether both read the same number, or none."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64, help="rows that the model answers")
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--max-new-tokens", type=int, default=320)
    parser.add_argument("--keep", type=Path, help="a file that completions are kept in, and read from where it exists")
    options = parser.parse_args()
    source = os.environ.get("TASKDEF_GSM8K")
    if not source:
        sys.exit("TASKDEF_GSM8K=FILE: name the rows of GSM8K's test set, JSON lines with `input` and `output`")
    rows = [json.loads(line) for line in Path(source).read_text(encoding="utf-8").splitlines()]
    cases = [Case("edge", f"#### {gold}", text) for gold, text in EDGE_CASES]
    cases += [Case("gold", row["output"], row["output"]) for row in rows]
    cases += [Case("shifted", row["output"], other["output"]) for row, other in pairwise(rows)]
    cases += completions(rows, options)
    scores = list(compare(cases))
    print_table(scores)
    print_differences(scores)


def completions(rows: list[dict[str, str]], options: argparse.Namespace) -> list[Case]:
    """The model's own, from the file of an earlier run or made now."""
    if options.keep is not None and options.keep.exists():
        return [Case(**json.loads(line)) for line in options.keep.read_text(encoding="utf-8").splitlines()]
    from taskdef.config import PolicyConfig
    from taskdef.policy.load import load_policy

    settings = PolicyConfig(max_new_tokens=options.max_new_tokens)
    policy = load_policy(options.model, load_pack("gsm8k"), settings)
    asked = rows[: options.rows]
    answered = policy.complete([row["input"] for row in asked], count=1, temperature=0.0, seed=0)
    cases = [Case("model", row["output"], given[0].text) for row, given in zip(asked, answered, strict=True)]
    if options.keep is not None:
        lines = [json.dumps(vars(case), ensure_ascii=False) + "\n" for case in cases]
        options.keep.write_text("".join(lines), encoding="utf-8")
    return cases


def compare(cases: list[Case]) -> Iterator[Scores]:
    """Both readings of every case by both."""
    spec = load_pack("gsm8k").answer
    theirs = lm_eval_readings()
    for case in cases:
        gold = read_answer(spec, case.target)
        assert gold is not None, case.target
        judged = judge(spec, case.text, gold, truncated=False, lenient=True)
        found = find_leniently(spec, case.text)
        ours = [(judged.verdict, judged.answer), (judged.lenient_verdict, found.answer if found else None)]
        for (reading, read), (verdict, answer) in zip(theirs.items(), ours, strict=True):
            right, their_answer = read(case.text, case.target)
            assert verdict is not None
            number = their_answer.replace(",", "").replace("$", "").rstrip(".")
            same = their_answer == "[invalid]" if answer is None else same_answer(spec, answer, number)
            yield Scores(case, reading, verdict, answer, right, their_answer, same)


def lm_eval_readings() -> dict[str, Callable[[str, str], tuple[bool, str]]]:
    """lm-eval's two readings of its gsm8k task, each a function of completion and target."""
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters import build_filter_ensemble

    task = yaml.safe_load((files("lm_eval") / "tasks" / "gsm8k" / "gsm8k.yaml").read_text(encoding="utf-8"))
    metric = task["metric_list"][0]
    settings = {key: metric[key] for key in ("regexes_to_ignore", "ignore_case", "ignore_punctuation")}

    def reading(name: str, steps: list[dict[str, object]]) -> Callable[[str, str], tuple[bool, str]]:
        parts = [(step["function"], {k: v for k, v in step.items() if k != "function"} or None) for step in steps]
        ensemble = build_filter_ensemble(name, parts)

        def read(text: str, target: str) -> tuple[bool, str]:
            instance = Instance("generate_until", {}, ("", {}), 0)
            instance.resps = [text]
            ensemble.apply([instance])
            answer = str(instance.filtered_resps[name])
            return bool(exact_match_hf_evaluate([answer], [target], **settings)["exact_match"] == 1), answer

        return read

    return {one["name"]: reading(one["name"], one["filter"]) for one in task["filter_list"]}


def print_table(scores: list[Scores]) -> None:
    headings = ("same verdict", "both right", "only taskdef", "only lm-eval", "same answer")
    print(f"{'completions':<12}{'lm-eval reading':<18}{'cases':>6}" + "".join(f"{name:>14}" for name in headings))
    for kind, reading in dict.fromkeys((one.case.kind, one.reading) for one in scores):
        group = [one for one in scores if (one.case.kind, one.reading) == (kind, reading)]
        verdicts = Counter((one.ours is Verdict.CORRECT, one.theirs) for one in group)
        figures = (
            verdicts[True, True] + verdicts[False, False],
            verdicts[True, True],
            verdicts[True, False],
            verdicts[False, True],
            sum(one.same_answer for one in group),
        )
        print(f"{kind:<12}{reading:<18}{len(group):>6}" + "".join(f"{figure:>14}" for figure in figures))


def print_differences(scores: list[Scores]) -> None:
    different = [one for one in scores if (one.ours is Verdict.CORRECT) != one.theirs or not one.same_answer]
    print(f"\n{len(different)} completions and readings with another verdict or another answer")
    for one in different:
        target = one.case.target.rpartition("####")[2].strip()
        print(
            f"- {one.case.kind}, {one.reading}: gold {target}; taskdef {one.ours.value} ({one.our_answer!r}), "
            f"lm-eval {'right' if one.theirs else 'wrong'} ({one.their_answer!r}); ends {one.case.text[-80:]!r}"
        )


if __name__ == "__main__":
    main()

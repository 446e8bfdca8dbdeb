import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from taskdef.errors import RunError
from taskdef.records import Stage
from taskdef.report.render import render_report
from taskdef.store import RunDirectory

MakeRun = Callable[..., RunDirectory]


class Page(HTMLParser):
    """The page as a browser takes it apart: its elements with their attributes, and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(run: RunDirectory) -> Page:
    return Page(render_report(run).read_text(encoding="utf-8"))


def test_the_headline_gives_the_figures_of_the_evaluation(make_run: MakeRun) -> None:
    run = make_run()
    evaluation = run.stage(Stage.EVALUATE).read_json("evaluation.json")
    tuned, base = evaluation["models"]["tuned"]["strict"], evaluation["models"]["base"]
    # i * 7 % 19 < 11 for 174 of 300 rows, one row's verifier failed: 174 / 299 = 58.19%
    assert (tuned["correct"], tuned["judged"]) == (174, 299)
    assert base["lenient"]["correct"] == 38  # i % 8 == 1
    text = page_of(run).text
    assert (
        "The tuned model answers 58.2% of 300 held\u2011out problems; the base model answers 0%, "
        "or 12.7% when its answers are read leniently."
    ) in text
    assert f"{100 * tuned['low']:.1f}% to {100 * tuned['high']:.1f}%" in text


def test_every_comparison_is_printed_as_it_was_found(make_run: MakeRun) -> None:
    run = make_run()
    text = page_of(run).text
    hardest = run.stage(Stage.EVALUATE).read_json("evaluation.json")["comparisons"][0]
    assert (
        f"Tuned model against base model , read leniently +{hardest['difference_points']:.1f} "
        f"{hardest['only_a']} {hardest['only_b']} p < 0.001 chance does not explain this difference; 1 left out"
    ) in text
    assert "0 of the 300 held-out questions occur among the 378 samples used for scoring." in text
    assert "0 of the 300 held-out questions occur among the 150 samples used for training." in text


def test_the_datas_path_shows_the_counts_of_the_artifacts(make_run: MakeRun) -> None:
    text = page_of(make_run()).text
    # 200 samples and 62 drops were drafted; 22 of 200 samples have no rewrite; 150 of 378 were selected
    for figure in ("Drafts 262", "Initial samples 200", "All samples 378", "Training set 150", "62 dropped"):
        assert figure in text
    for figure in ("54 harder", "124 easier", "22 rewrites dropped", "228 not chosen", "no majority 31"):
        assert figure in text


def test_texts_of_models_stay_texts(make_run: MakeRun) -> None:
    run = make_run(until=Stage.SELECT)
    page = page_of(run)
    html = run.report_path.read_text(encoding="utf-8")
    assert "<script>alert(1)</script>" in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not any(tag in ("img", "iframe", "object", "link") for tag, _ in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "{{ 7 * 7 }}" in page.text
    assert not {"\u202e", "\x00"} & set(html)


def test_the_page_loads_nothing_and_runs_no_script_but_its_own(make_run: MakeRun) -> None:
    run = make_run()
    page = page_of(run)
    html = run.report_path.read_text(encoding="utf-8")
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset")
    ]
    assert all(value is not None and value.startswith(("#", "data:text/yaml")) for value in addresses)
    assert "url(" not in html
    assert "@import" not in html
    policy = next(
        attributes["content"] for tag, attributes in page.elements if tag == "meta" and "http-equiv" in attributes
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert re.search(r"script-src 'sha256-[\w+/]+=*'", policy)


def test_the_page_is_small(make_run: MakeRun) -> None:
    assert render_report(make_run()).stat().st_size < 500_000


@pytest.mark.parametrize("until", [None, *Stage])
def test_a_run_can_be_looked_at_after_every_stage(make_run: MakeRun, until: Stage | None) -> None:
    run = make_run(until=until)
    text = page_of(run).text
    following = run.next_stage()
    if following is None:
        assert "Go on with" not in text
    else:
        assert "This run is not finished: no held-out accuracy yet." in text
        assert f"Next is {following.value};" in text
        assert f"Go on with taskdef run {run.path}" in text


def test_training_can_be_watched_while_it_runs(make_run: MakeRun) -> None:
    run = make_run(until=Stage.SELECT)
    directory = run.stage(Stage.TRAIN)
    directory.open()
    lines = "".join(json.dumps({"step": step, "reward": 0.5, "kl": float("nan")}) + "\n" for step in (1, 2, 3))
    (directory.path / "log.jsonl").write_text(lines + '{"step": 4, "rew', encoding="utf-8")
    text = page_of(run).text
    assert "under way: 3 steps" in text
    assert "step 3: 0.5" in text
    assert "Distance from the start" not in text  # logged, but never a finite number


def test_what_the_warm_up_gained_is_kept_apart(make_run: MakeRun) -> None:
    text = page_of(make_run()).text
    assert "Steps of SFT 6 Readable before 6.2% Readable after 84.4%" in text
    assert "is not counted as reinforcement's gain" in text


def test_a_damaged_artifact_is_named(make_run: MakeRun) -> None:
    run = make_run()
    (run.stage(Stage.EVALUATE).path / "evaluation.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"evaluation\.json: damaged(.|\n)*--fresh evaluate"):
        render_report(run)


def test_the_report_can_be_written_again(make_run: MakeRun) -> None:
    run = make_run()
    first = render_report(run).read_bytes()
    assert render_report(run) == run.report_path
    assert run.report_path.read_bytes() == first
    assert not list(Path(run.path).glob(".*tmp"))

"""What an analysis says of texts, shares, votes and rates, worked out by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from finished_run import SAMPLES, build_finished_run

from taskdef.analyze import analysis as analysis_module
from taskdef.analyze import texts
from taskdef.analyze.analysis import Wanted, analyze_run
from taskdef.analyze.figures import draw_analysis, length_edges
from taskdef.analyze.records import Analysis
from taskdef.analyze.sets import HumanRow, TextSet, read_human
from taskdef.analyze.shares import describe_shares, spread
from taskdef.analyze.similarity import describe_similarity, pairwise_similarity
from taskdef.analyze.tables import print_analysis
from taskdef.analyze.texts import count_duplicates, describe_texts, distinct_n, self_bleu
from taskdef.analyze.votes import describe_votes
from taskdef.errors import BaseModelError, LibraryError, RunError, TestSetError
from taskdef.policy import load
from taskdef.records import Stage
from taskdef.report.gather import gather
from taskdef.retrieve import language_models
from taskdef.store import RunDirectory
from taskdef.verify.isolated import Verifier


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return build_finished_run(tmp_path_factory.mktemp("analyze") / "sums")


def test_distinct_n_counts_different_word_ngrams() -> None:
    # a b / a c: words a b a c, three of four different; pairs "a b", "a c"
    assert distinct_n(["a b", "A c."], 1) == 0.75
    assert distinct_n(["a b", "a c"], 2) == 1
    assert distinct_n(["a"], 2) is None


def test_self_bleu_is_100_where_all_are_equal_and_low_where_nothing_is_shared() -> None:
    pytest.importorskip("sacrebleu")
    assert self_bleu(["one two three four five"] * 3, seed=0) == pytest.approx(100)
    # no word in common: only sacrebleu's smoothing of the four zero precisions is left
    assert (self_bleu(["a b c d e", "f g h i j"], seed=0) or 0) < 20
    assert self_bleu(["alone"], seed=0) is None


def test_equal_and_near_inputs_are_told_apart() -> None:
    long = "a farmer has some cows and some sheep on the meadow behind his old red house near the river"
    assert count_duplicates(["1 + 2?", "1 + 2 ?", "1 + 3?", long, long + " today"], 0.9) == (1, 1)


def test_similarity_takes_every_pair_once() -> None:
    # two equal vectors and one at a right angle to both: cosines 1, 0, 0; nearest 1, 1, 0
    found = pairwise_similarity("initial", np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32))
    assert (found.pairs, found.mean, found.nearest) == (3, pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert sum(found.counts) == 3
    assert found.counts[-1] == 1
    with pytest.raises(ValueError, match="1 vectors have no pairs"):
        pairwise_similarity("initial", np.ones((1, 2)))


def test_sets_of_different_sizes_are_compared_on_as_many_texts() -> None:
    inputs = [f"{word} {number}" for number in range(20) for word in ("red", "green", "blue")]
    sets = [TextSet(name, inputs[:size], inputs[:size], inputs[:size]) for name, size in (("all", 60), ("human", 4))]
    found = describe_similarity([*sets, TextSet("training", ["1"], ["one"], ["1"])], lambda some: np.eye(len(some)), 0)
    assert [(one.name, one.texts) for one in found] == [("all", 4), ("human", 4)]
    pytest.importorskip("sacrebleu")
    large, small = describe_texts(sets, near_similarity=0.9, seed=0, count_tokens=None)
    assert (large.self_bleu, small.self_bleu) == (self_bleu(inputs, 0, 4), self_bleu(inputs[:4], 0))


def test_the_effective_number_is_that_of_equally_frequent_ones() -> None:
    even = spread("passage", "initial", ["a", "b", "a", "b", None], retrieved=5)
    assert (even.effective, even.unused, even.without) == (pytest.approx(2), 3, 1)
    # shares 3/4 and 1/4: exp(3/4 ln 4/3 + 1/4 ln 4)
    uneven = spread("domain", "initial", ["a", "a", "a", "b"])
    assert uneven.effective == pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)))
    assert uneven.unused == 0


def test_a_rewrite_counts_for_the_passage_of_its_sample(run: RunDirectory) -> None:
    shares = {(one.by, one.among): one for one in describe_shares(gather(run))}
    assert shares["passage", "initial"].counts == {"p0": 4, "p1": 4, "p2": 4}
    # s01 s02 s03 s05 s06 s07 and the rewrites of s00 and s02, whose passages are p0 and p2
    assert shares["passage", "training"].counts == {"p2": 3, "p0": 3, "p1": 2}
    assert shares["domain", "training"].counts == {"small": 6, "large": 2}


def test_votes_are_held_against_human_answers(run: RunDirectory) -> None:
    # s00 and s02 won 3 of 4 votes, s01 all of them; the human answers say that s02's label is wrong
    human = [
        HumanRow("h0", "0 + 1 ?", "#### 1", "1"),
        HumanRow("h1", "1 + 2?", "#### 3", "3"),
        HumanRow("h2", "2 +  3?", "#### 6", "6"),
        HumanRow("h3", "3 + 4?", "none", None),
        HumanRow("h4", "77 + 1?", "#### 78", "78"),
    ]
    with Verifier(run.definition.answer) as verifier:
        votes = describe_votes(SAMPLES, human, verifier)
        assert describe_votes(SAMPLES, human[4:], verifier) is None
    assert votes is not None
    # "0 + 1 ?" has a blank that the sample's question lacks: equality is that of overlap counts
    assert (votes.matched, votes.unjudged, votes.correct) == (3, 1, 1)
    bins = {(one.low, one.high): (one.labels, one.correct) for one in votes.bins if one.labels}
    assert bins == {(0.7, 0.8): (1, 0), (0.9, 1.0): (1, 1)}


def test_human_rows_without_an_answer_are_kept_as_texts(run: RunDirectory, tmp_path: Path) -> None:
    file = tmp_path / "human.jsonl"
    rows = [{"input": "1 + 1?", "output": "#### 2"}, {"input": "2 + 2?", "output": "who knows"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.answer for row in read_human(run, file)] == ["2", None]
    with pytest.raises(TestSetError) as raised:
        read_human(run, tmp_path / "missing.jsonl")
    assert str(raised.value) == (
        f"{tmp_path / 'missing.jsonl'}: the human file cannot be read: No such file or directory\n"
        "  next: --human FILE: one JSON object a line, with `input` and `output`"
    )


def test_lengths_fall_into_bins_of_whole_numbers() -> None:
    assert list(length_edges([np.array([3, 4, 5])])) == [2.5, 3.5, 4.5, 5.5]
    edges = length_edges([np.arange(1, 301)], bins=30)
    assert edges[0] == 0.5
    assert set(np.diff(edges)) == {10}


def test_what_cannot_be_measured_is_named(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_embedder(source: str) -> None:
        raise LibraryError(f"retrieve.embedding={source}: not here", next_step="pip install 'taskdef[dense]'")

    def no_tokenizer(source: str) -> None:
        raise BaseModelError(f"{source}: not here")

    monkeypatch.setattr(language_models, "Embedder", no_embedder)
    monkeypatch.setattr(load, "load_tokenizer", no_tokenizer)
    for module in (analysis_module, texts):
        monkeypatch.setattr(module, "has_sacrebleu", lambda: False)
    analysis = analyze_run(run, Wanted())
    assert set(analysis.not_measured) == {"self-BLEU", "token lengths", "similarity", "votes against people"}
    assert analysis.not_measured["self-BLEU"] == "sacrebleu is not installed: pip install 'taskdef[analysis]'"
    assert [one.name for one in analysis.texts] == ["initial", "all", "training"]
    assert analysis.rates[0].rates[:5] == (0, 0.25, 0.5, 0.75, 1)
    assert Analysis.model_validate_json((run.path / "analysis" / "analysis.json").read_bytes()) == analysis
    files = draw_analysis(analysis, tmp_path)
    assert sorted(file.name for file in files) == ["pass-rates.pdf", "pass-rates.svg", "shares.pdf", "shares.svg"]
    assert files[1].read_bytes().startswith(b"%PDF")
    print_analysis(analysis)
    printed = capsys.readouterr().out
    assert "Training set, by passage: 3 of them, effective number 2.95, the most frequent 'p2' with 37.5%" in printed
    assert (
        "not measured: similarity: retrieve.embedding=builtin:minilm-l6: not here: pip install 'taskdef[dense]'"
        in printed
    )


def test_a_run_without_samples_says_what_to_do(tmp_path: Path) -> None:
    run = build_finished_run(tmp_path / "sums", until=Stage.RETRIEVE)
    with pytest.raises(RunError, match=r"the stage synthesize has not been run\n  next: taskdef run "):
        analyze_run(run, Wanted())

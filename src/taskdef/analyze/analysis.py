"""``taskdef analyze``: describe a run's data, beside human data where a file is given, and draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taskdef.analyze.rates import AnalysisDirectory, human_rates, scored_rates
from taskdef.analyze.records import Analysis, Rates, Similarity, Texts, Votes
from taskdef.analyze.sets import HumanRow, TextSet, human_set, read_human, sample_sets
from taskdef.analyze.shares import describe_shares
from taskdef.analyze.similarity import describe_similarity
from taskdef.analyze.texts import CountTokens, describe_texts, has_sacrebleu
from taskdef.analyze.votes import describe_votes
from taskdef.errors import BaseModelError, LibraryError
from taskdef.pipeline import starting_model
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Stage
from taskdef.report.gather import Artifacts, gather
from taskdef.store import RunDirectory
from taskdef.verify.isolated import Verifier

ANALYSIS_FILE = "analysis.json"
INSTALL = "pip install 'taskdef[analysis]'"


@dataclass(frozen=True)
class Wanted:
    """What is asked of an analysis beside the run."""

    human: Path | None = None
    rows: int = 200
    """Human rows that the starting model attempts at most."""
    attempts: int = 16
    """Attempts on each of them; 0 leaves human pass rates out."""


def analyze_run(run: RunDirectory, wanted: Wanted, progress: Progress | None = None) -> Analysis:
    """Describe the run's data as far as it has come, and write ``analysis.json`` into its folder ``analysis``.

    What cannot be measured is left out and named in ``not_measured``. Raises RunError where the run has no samples yet
    or another process works on it, TestSetError where the human file cannot be read, BaseModelError where human pass
    rates are wanted and the model cannot be loaded.
    """
    progress = progress or SilentProgress()
    run.stage(Stage.SYNTHESIZE).manifest()
    artifacts = gather(run)
    human = read_human(run, wanted.human) if wanted.human is not None else []
    samples = sample_sets(artifacts)
    everything = [*samples, human_set(human)] if human else samples
    directory, missing = AnalysisDirectory(run), dict[str, str]()
    with run.locked(), Verifier(run.definition.answer, run.config.verify.timeout_seconds) as verifier:
        rates = scored_rates(samples, artifacts)
        if not rates:
            missing["pass rates"] = "scoring (select) is not done"
        if human:
            rates += _human_rates(run, human, wanted, directory, verifier, progress, missing)
        analysis = Analysis(
            run=run.name,
            model=run.config.base_model,
            human=wanted.human.name if wanted.human is not None else None,
            human_rows=len(human),
            human_unreadable=sum(row.answer is None for row in human),
            texts=tuple(_texts(run, everything, missing)),
            similarity=tuple(_similarity(run, everything, progress, missing)),
            rates=tuple(rates),
            shares=tuple(describe_shares(artifacts)),
            votes=_votes(artifacts, human, verifier, missing),
            not_measured=missing,
        )
        directory.open()
        directory.write_json(ANALYSIS_FILE, analysis.model_dump(mode="json"))
    return analysis


def _human_rates(
    run: RunDirectory,
    human: Sequence[HumanRow],
    wanted: Wanted,
    directory: AnalysisDirectory,
    verifier: Verifier,
    progress: Progress,
    missing: dict[str, str],
) -> list[Rates]:
    if not wanted.attempts:
        missing["human pass rates"] = "left out by --attempts 0"
        return []
    if not run.stage(Stage.ADAPT).is_done():
        missing["human pass rates"] = "the starting model is not known before adapt is done"
        return []
    from taskdef.policy.load import load_policy

    policy = load_policy(starting_model(run), run.definition, run.config.policy)
    return [
        human_rates(
            human,
            policy,
            directory,
            most_rows=wanted.rows,
            attempts=wanted.attempts,
            verifier=verifier,
            progress=progress,
        )
    ]


def _texts(run: RunDirectory, sets: Sequence[TextSet], missing: dict[str, str]) -> list[Texts]:
    if not has_sacrebleu():
        missing["self-BLEU"] = f"sacrebleu is not installed: {INSTALL}"
    return describe_texts(
        sets,
        near_similarity=run.config.synthesize.near_duplicate_similarity,
        seed=run.config.seed,
        count_tokens=_token_counter(run, missing),
    )


def _token_counter(run: RunDirectory, missing: dict[str, str]) -> CountTokens | None:
    from taskdef.policy.load import load_tokenizer

    try:
        tokenizer = load_tokenizer(run.config.base_model)
    except BaseModelError as error:
        missing["token lengths"] = error.message
        return None
    return lambda texts: [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def _similarity(
    run: RunDirectory, sets: Sequence[TextSet], progress: Progress, missing: dict[str, str]
) -> list[Similarity]:
    from taskdef.retrieve.language_models import Embedder

    try:
        embedder = Embedder(run.config.retrieve.embedding)
    except LibraryError as error:
        missing["similarity"] = f"{error.message}: {error.next_step}"
        return []
    progress.line("embedding the inputs")
    return describe_similarity(sets, embedder.embed_texts, run.config.seed)


def _votes(
    artifacts: Artifacts, human: Sequence[HumanRow], verifier: Verifier, missing: dict[str, str]
) -> Votes | None:
    if not human:
        missing["votes against people"] = "needs --human FILE with the same questions"
        return None
    votes = describe_votes(artifacts.adapted or artifacts.initial, human, verifier)
    if votes is None:
        missing["votes against people"] = "no sample that was put to the vote has its question in the human file"
    return votes

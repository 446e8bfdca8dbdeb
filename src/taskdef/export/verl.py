"""verl's Parquet: the columns that its RLHFDataset and its reward managers read."""

from __future__ import annotations

from taskdef.export.rows import Rows
from taskdef.export.samples import Which, read_pass_rates, read_samples, user_message
from taskdef.store import RunDirectory


def verl_rows(run: RunDirectory, which: Which, data_source: str | None = None) -> Rows:
    """``data_source``, ``prompt``, ``ability``, ``reward_model`` (style, ground_truth), ``extra_info``.

    verl chooses the reward function by ``data_source``: ``openai/gsm8k``, say, or a function of one's own for any
    other name. Raises RunError where the run has not come that far.
    """
    rates = read_pass_rates(run)
    rows = []
    for index, sample in enumerate(read_samples(run, which)):
        rate = rates.get(sample.id)
        rows.append(
            {
                "data_source": data_source or f"taskdef/{run.definition.name}",
                "prompt": user_message(run, sample),
                "ability": run.definition.name,
                "reward_model": {"style": "rule", "ground_truth": sample.answer},
                "extra_info": {
                    "split": "train",
                    "index": index,
                    "sample_id": sample.id,
                    "question": sample.input,
                    "answer": sample.solution,
                    "origin": sample.origin.value,
                    "domain": sample.domain or "",
                    "pass_rate": rate.rate if rate is not None else None,
                },
            }
        )
    return Rows(rows, "prompts", schema=_schema())


def _schema() -> object:
    import pyarrow

    text = pyarrow.string()
    extra = dict.fromkeys(("split", "index", "sample_id", "question", "answer", "origin", "domain"), text)
    return pyarrow.schema(
        {
            "data_source": text,
            "prompt": pyarrow.list_(pyarrow.struct({"role": text, "content": text})),
            "ability": text,
            "reward_model": pyarrow.struct({"style": text, "ground_truth": text}),
            "extra_info": pyarrow.struct(extra | {"index": pyarrow.int64(), "pass_rate": pyarrow.float64()}),
        }
    )

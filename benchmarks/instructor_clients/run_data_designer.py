"""NVIDIA DataDesigner on the loopback server: one text column over a seed data set of the prompts.

Its setting: ``max_parallel_requests`` is its cap of requests in flight (its additive increase starts at the cap and
comes down at a 429 only), one row group holds all rows, because rows of a group that is not open yet cannot fill
slots, and its check of the endpoint, its metrics page and the hardened template engine are off.
"""

from __future__ import annotations

import logging
from importlib.metadata import version

import data_designer.config as dd
import pandas as pd
from data_designer.interface import DataDesigner
from measured import MAX_TOKENS, MODEL, TEMPERATURE, Clock, parse_arguments, read_texts


def main() -> None:
    arguments = parse_arguments(__doc__, in_flight=128)
    logging.disable(logging.INFO)
    provider = dd.ModelProvider(name="loopback", endpoint=arguments.url, api_key="none-needed")
    parameters = dd.ChatCompletionInferenceParams(
        max_parallel_requests=arguments.in_flight, temperature=TEMPERATURE, max_tokens=MAX_TOKENS, timeout=120
    )
    model = dd.ModelConfig(
        alias="asked", model=MODEL, provider="loopback", inference_parameters=parameters, skip_health_check=True
    )
    designer = DataDesigner(artifact_path=arguments.work, model_providers=[provider], auto_configure_logging=False)
    designer.set_run_config(
        dd.RunConfig(
            buffer_size=arguments.calls,
            max_in_flight_tasks=max(1024, 2 * arguments.in_flight),
            jinja_rendering_engine=dd.JinjaRenderingEngine.NATIVE,
            otel_metrics_port=None,
        )
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    texts = list(read_texts(arguments.texts, arguments.calls))
    builder.with_seed_dataset(dd.DataFrameSeedSource(df=pd.DataFrame({"text": texts})))
    builder.add_column(dd.LLMTextColumnConfig(name="answer", prompt="{{ text }}", model_alias="asked"))
    clock = Clock()
    answers = designer.create(builder, num_records=arguments.calls, dataset_name="speed").load_dataset()["answer"]
    clock.report(
        answered=sum(bool(answer) for answer in answers),
        version=f"data-designer {version('data-designer')}",
        setting=f"max_parallel_requests={arguments.in_flight}",
    )


if __name__ == "__main__":
    main()

"""Bespoke Curator on the loopback server: one LLM over a list of prompts.

Its setting: ``max_concurrent_requests`` is its cap of requests in flight; its limits of requests and tokens a minute,
which otherwise hold it to its defaults, are put out of reach.
"""

from __future__ import annotations

import os
from importlib.metadata import version

from bespokelabs import curator
from measured import MAX_TOKENS, MODEL, TEMPERATURE, Clock, parse_arguments, read_texts

_OUT_OF_REACH = 10**9


def main() -> None:
    arguments = parse_arguments(__doc__, in_flight=256)
    os.environ["CURATOR_CACHE_DIR"] = str(arguments.work)
    llm = curator.LLM(
        model_name=MODEL,
        backend="openai",
        generation_params={"temperature": TEMPERATURE, "max_tokens": MAX_TOKENS},
        backend_params={
            "base_url": arguments.url,
            "api_key": "none-needed",
            "max_concurrent_requests": arguments.in_flight,
            "max_requests_per_minute": _OUT_OF_REACH,
            "max_tokens_per_minute": _OUT_OF_REACH,
            "request_timeout": 120,
        },
    )
    texts = list(read_texts(arguments.texts, arguments.calls))
    clock = Clock()
    answers = llm(texts).dataset["response"]
    clock.report(
        answered=sum(bool(answer) for answer in answers),
        version=f"bespokelabs-curator {version('bespokelabs-curator')}",
        setting=f"max_concurrent_requests={arguments.in_flight}",
    )


if __name__ == "__main__":
    main()

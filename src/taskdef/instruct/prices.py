"""What a request costs: by the prices in the config, else by genai-prices, else unknown. Never a guess, never 0.

In a batch (``instruct.batch``) a request costs half of the config's prices, or the batch rate that genai-prices lists.
Where it lists none for a model, the full rate counts: that is never less than what is billed, so that a cap holds.
"""

from __future__ import annotations

from typing import Any

from taskdef.config import InstructorConfig
from taskdef.errors import ConfigError
from taskdef.instruct.chat import Usage

_MILLION = 1_000_000
_TOKENS_LOOKED_UP = 1_000
_BATCH_SHARE = 0.5
"""Of the price, in OpenAI's Batch API and those like it."""


class Prices:
    """The prices of one model at one address."""

    def __init__(self, model: str, address: str, config: InstructorConfig) -> None:
        """Raises ConfigError where the config gives one of the two prices without the other."""
        given = (config.price_input, config.price_output)
        if (given[0] is None) is not (given[1] is None) or (config.price_cached_input is not None and given[0] is None):
            raise ConfigError(
                "instruct.price_input and instruct.price_output belong together: one of them is missing",
                next_step="--set instruct.price_input=… --set instruct.price_output=…, in US dollars a million tokens",
            )
        self._model = model
        self._address = address
        self._config = config
        can_be_listed = given[0] is None and address.startswith("http")
        self._is_listed = can_be_listed and self._look_up(Usage(_TOKENS_LOOKED_UP, _TOKENS_LOOKED_UP)) is not None

    @property
    def known(self) -> bool:
        return self._config.price_input is not None or self._is_listed

    @property
    def source(self) -> str:
        """Where the prices come from, for the report."""
        if self._config.price_input is not None:
            return "the run's config"
        return "genai-prices" if self._is_listed else "unknown"

    def cost(self, usage: Usage | None) -> float | None:
        """US dollars; None where the price or the usage is not known."""
        if usage is None:
            return None
        config = self._config
        if config.price_input is not None and config.price_output is not None:
            cached_price = config.price_input if config.price_cached_input is None else config.price_cached_input
            uncached = usage.prompt_tokens - usage.cached_tokens
            dollars = uncached * config.price_input + usage.cached_tokens * cached_price
            share = _BATCH_SHARE if config.batch else 1.0
            return share * (dollars + usage.completion_tokens * config.price_output) / _MILLION
        return self._look_up(usage) if self._is_listed else None

    def _look_up(self, usage: Usage) -> float | None:
        import genai_prices  # here: it takes half a second to import

        counted: dict[str, Any] = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
        if usage.cached_tokens:
            counted["cache_read_tokens"] = usage.cached_tokens
        try:
            found = genai_prices.calc_price(
                genai_prices.Usage(**counted),
                model_ref=self._model,
                provider_api_url=self._address,
                price_context={"processing": "batch"} if self._config.batch else None,
            )
        except LookupError:
            return None
        return float(found.total_price)

"""Prices: given, listed, or unknown; never a guess."""

import pytest

from taskdef.config import InstructorConfig
from taskdef.errors import ConfigError
from taskdef.instruct.chat import Usage
from taskdef.instruct.prices import Prices

OPENAI = "https://api.openai.com/v1"


def test_given_prices_are_used_and_cached_tokens_have_their_own() -> None:
    usage = Usage(prompt_tokens=1_000_000, completion_tokens=500_000, cached_tokens=400_000)
    prices = Prices("m", "http://localhost/v1", InstructorConfig(price_input=2, price_output=8))
    assert prices.cost(usage) == pytest.approx(2 + 4)
    prices = Prices("m", OPENAI, InstructorConfig(price_input=2, price_output=8, price_cached_input=0.5))
    assert prices.cost(usage) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 4)
    assert prices.source == "the run's config"


def test_listed_prices_are_looked_up_by_address_and_model() -> None:
    prices = Prices("gpt-4o-mini", OPENAI, InstructorConfig())
    cost = prices.cost(Usage(1_000_000, 1_000_000))
    assert cost is not None
    assert 0.1 < cost < 10
    assert (prices.known, prices.source) == (True, "genai-prices")


@pytest.mark.parametrize(("model", "address"), [("gpt-4o-mini", "http://localhost:1/v1"), ("no-such-model", OPENAI)])
def test_an_unknown_price_is_unknown(model: str, address: str) -> None:
    prices = Prices(model, address, InstructorConfig())
    assert (prices.cost(Usage(1, 1)), prices.known, prices.source) == (None, False, "unknown")


def test_an_unknown_usage_costs_an_unknown_amount() -> None:
    assert Prices("m", OPENAI, InstructorConfig(price_input=2, price_output=8)).cost(None) is None


def test_a_price_of_nothing_is_a_price() -> None:
    assert Prices("m", OPENAI, InstructorConfig(price_input=0, price_output=0)).cost(Usage(5, 5)) == 0.0


@pytest.mark.parametrize("given", [{"price_input": 1}, {"price_output": 1}, {"price_cached_input": 1}])
def test_half_a_price_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="belong together"):
        Prices("m", OPENAI, InstructorConfig(**given))

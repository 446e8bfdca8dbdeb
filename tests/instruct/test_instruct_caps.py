"""A cap holds, as the server counts; and a run that stopped at one goes on to the same dataset."""

import asyncio
import random
import statistics
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fault_server import teaching
from generation_runs import DEFINITION, synthesize

from taskdef.config import InstructorConfig
from taskdef.errors import BudgetReached, ConfigError, InstructorError
from taskdef.instruct.budget import Amount, Budget, Caps, parse_caps
from taskdef.instruct.chat import ChatRequest, Usage
from taskdef.instruct.ledger import Ledger, Settled
from taskdef.instruct.load import load_instructor
from taskdef.instruct.openai_compatible import OpenAIEndpoint
from taskdef.instruct.sender import Sender
from taskdef.verify.isolated import Verifier

SAMPLES = 60
PRICES = {"price_input": 2.0, "price_output": 10.0}
"""US dollars a million tokens."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries: what is waited for changes no count."""
    monkeypatch.setitem(Sender.__init__.__kwdefaults__, "backoff_seconds", 0.01)


@pytest.mark.parametrize("fault_share", [0.0, 0.2])
def test_the_server_never_counts_more_than_the_cap(tmp_path: Path, fault_share: float) -> None:
    settings = {**PRICES, "first_byte_timeout_seconds": 0.3}
    with Verifier(DEFINITION.answer) as verifier:
        with teaching() as teacher:
            expected = asyncio.run(synthesize(tmp_path / "all.sqlite", teacher.url, SAMPLES, verifier, **settings))
            whole = teacher.tokens
        points = random.Random(5)
        used = []
        for number in range(10):
            cap = points.randint(whole // 20, whole)
            ledger = tmp_path / f"{number}.sqlite"
            with teaching(fault_share=fault_share, seed=number, latency=0.002) as teacher:
                with pytest.raises(BudgetReached):
                    asyncio.run(synthesize(ledger, teacher.url, SAMPLES, verifier, budget=f"{cap}tokens", **settings))
                assert teacher.tokens <= cap
                used.append(teacher.tokens / cap)
                raised = asyncio.run(
                    synthesize(ledger, teacher.url, SAMPLES, verifier, budget=f"{20 * whole}tokens", **settings)
                )
                assert raised == expected
    # Without faults a cap is used well unless it is small against one request's most.
    assert fault_share or statistics.median(used) > 0.8


def test_a_cap_in_money_and_one_in_calls(tmp_path: Path) -> None:
    with Verifier(DEFINITION.answer) as verifier, teaching() as teacher:
        with pytest.raises(BudgetReached, match=r"the budget of 0\.01 usd is used up: 0\.00\d+ usd, [\d,]+ tokens in "):
            asyncio.run(synthesize(tmp_path / "a", teacher.url, SAMPLES, verifier, budget="0.01usd", **PRICES))
        # at most 10 dollars a million tokens: a token more than 5,000 input or 1,000 output tokens would be too much
        assert teacher.tokens * 2.0 / 1e6 <= 0.01
        teacher.requests = 0
        with pytest.raises(BudgetReached, match="the budget of 17 calls is used up"):
            asyncio.run(synthesize(tmp_path / "b", teacher.url, SAMPLES, verifier, budget="17calls"))
        assert teacher.requests == 17


def test_a_cap_in_money_wants_a_price() -> None:
    with pytest.raises(
        InstructorError, match="no price is known, so a budget in money cannot hold\n  next: cap tokens"
    ):
        load_instructor(
            "openai:m@http://127.0.0.1:9/v1", ledger_path=None, config=InstructorConfig(budget="5usd"), seed=0
        )
    with pytest.raises(ConfigError, match="belong together"):
        load_instructor(
            "openai:m@http://localhost/v1", ledger_path=None, config=InstructorConfig(price_input=1.0), seed=0
        )


def test_a_request_waits_for_what_others_give_back() -> None:
    async def two() -> list[Amount]:
        budget = Budget(Caps(tokens=100), Amount(tokens=10, calls=1))
        await budget.set_aside(Amount(tokens=60, calls=1))
        second = asyncio.ensure_future(budget.set_aside(Amount(tokens=60, calls=1)))
        await asyncio.sleep(0)
        assert not second.done()
        budget.settle(Amount(tokens=60, calls=1), Amount(tokens=25, calls=1))
        await second
        budget.settle(Amount(tokens=60, calls=1), Amount(tokens=60, calls=1))
        with pytest.raises(BudgetReached, match=r"95 tokens in 3 calls so far, and the next call may take 6 tokens"):
            await budget.set_aside(Amount(tokens=6, calls=1))
        return [budget.spent]

    assert asyncio.run(two()) == [Amount(tokens=95, calls=3)]


@pytest.mark.parametrize(
    ("text", "caps"),
    [
        (None, Caps()),
        ("5usd", Caps(usd=5.0)),
        ("0.50 usd", Caps(usd=0.5)),
        ("2Mtokens", Caps(tokens=2_000_000)),
        ("1.5k tokens, 500calls", Caps(tokens=1_500, calls=500)),
        ("1call", Caps(calls=1)),
        ("10_000tokens", Caps(tokens=10_000)),
        ("5 USD", Caps(usd=5.0)),
        ("0usd", Caps(usd=0.0)),
    ],
)
def test_budgets_are_read(text: str | None, caps: Caps) -> None:
    assert parse_caps(text) == caps


@pytest.mark.parametrize(
    "text",
    ["5", "usd", "-5usd", "5eur", "5usd,6usd", "5usd;", ",", "", " ", "nan usd", "1e3tokens", f"{'9' * 400}tokens"],
)
def test_a_budget_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="give 5usd, 2Mtokens, 500calls"):
        parse_caps(text)


@pytest.mark.parametrize("text", ["0.5calls", "1.5tokens", "1.0005ktokens"])
def test_there_is_no_part_of_a_call_or_a_token(text: str) -> None:
    with pytest.raises(ConfigError, match="is no whole number of"):
        parse_caps(text)


def test_what_was_spent_before_there_was_a_price_counts_against_a_cap_in_money(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    request = ChatRequest("answer", "p", 0.7, 100)

    async def spend() -> None:
        ledger = Ledger(path)
        for usage, counted in ((Usage(1_000_000, 500_000), 1_500_000), (None, 300_000)):
            number = await ledger.open_request(request, 1, Amount(0.0, counted, 1))
            await ledger.settle(number, Settled("done", usage, None, Amount(0.0, counted, 1), 0.1))
        await ledger.open_request(request, 1, Amount(0.0, 100_000, 1))  # and one that is lost
        ledger.close()

    asyncio.run(spend())
    endpoint = OpenAIEndpoint("m", "http://localhost/v1", config=InstructorConfig())
    priced = InstructorConfig(budget="9usd", price_input=2.0, price_output=4.0)
    # 1 M x 2 + 0.5 M x 4 usd, and at most 0.4 M x 4 for what was not counted
    assert Sender(endpoint, Ledger(path), priced).budget.spent == Amount(5.6, 1_900_000, 3)
    assert Sender(endpoint, Ledger(path), InstructorConfig()).budget.spent == Amount(0.0, 1_900_000, 3)

import pytest

from taskdef.report.charts import Stack, bars, binned, curve, nice_ticks, smoothed
from taskdef.report.panels import rate_bins
from taskdef.report.text import clip, duration, number, p_value, p_words, percent, points


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 150, [0, 50, 100, 150]),
        (0, 0, [0, 0.25, 0.5, 0.75, 1]),
        (-0.3, 0.9, [-0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_a_value_on_an_edge_is_counted_once() -> None:
    assert binned([0, 1, 1.5, 2, 3, 4], [0, 1, 2, 3]) == [1, 2, 2]  # 3 closes the last bin, 4 lies outside


def test_never_and_always_solved_have_bars_of_their_own() -> None:
    assert rate_bins([0, 0, 0.05, 0.1, 0.95, 1]) == [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]


def test_smoothing_keeps_length_and_level() -> None:
    assert smoothed([2.0] * 50) == [2.0] * 50
    assert smoothed([0, 3, 0]) == [1.5, 1.0, 1.5]


def test_marks_carry_their_figures_and_escape_their_names() -> None:
    chart = bars(["low", "high"], [Stack("<b>", "initial", [3, 0])], what="a & b", ticks=[(0, "0")])
    assert chart.count("<rect") == 1
    assert "low: 3 &lt;b&gt;" in chart
    assert 'aria-label="a &amp; b"' in chart


def test_one_step_is_enough_for_a_curve_and_none_for_no_curve() -> None:
    assert "step 1: 0.5" in curve([(1, 0.5)], what="Reward", show=number)
    assert curve([], what="Reward", show=number) == ""


def test_a_long_curve_is_thinned_where_it_can_be_hovered() -> None:
    assert curve([(step, 0.1) for step in range(2000)], what="KL", show=number).count("<circle") <= 120


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(None), "\u2013"),
        (percent(0.0), "0%"),
        (percent(0.5819), "58.2%"),
        (percent(1.0), "100%"),
        (points(-2.25), "\u22122.2"),
        (points(41.0), "+41.0"),
        (number(12345), "12\u202f345"),
        (number(0.00002), "2e-5"),
        (number(None), "\u2013"),
        (number(float("nan")), "\u2013"),
        (duration(3725), "1 h 2 min"),
        (duration(61), "1 min 1 s"),
        (duration(0.42), "0.4 s"),
        (p_value(0.00002), "p < 0.001"),
        (p_value(0.0214), "p = 0.021"),
        (p_words(0.3), "this could well be chance"),
        (clip("abcdef", 4), "abcd … (2 more characters)"),
        (clip("a\ud800\x07", 9), "a?\u2407"),
        (clip(None, 9), "\u2013"),
    ],
)
def test_figures_are_printed_for_people(shown: str, expected: str) -> None:
    assert shown == expected

"""How often does each rule find the true pit, by the number of rollouts of a prefix?

    python benchmarks/pit_rules.py [--chances .6 .5 .4 .05 .05 .02] [--repeats 4000]

``--chances`` are the chances that one rollout is correct, at the start and after each step of a wrong response but the
last, which ends it. The true pit is the step at which Q = 1 - (1 - q)^K falls most. Rollouts are drawn from these
chances; Q, what follows a prefix that always failed, and the pit are what taskdef makes of them. Prints, for each
number of rollouts, the share of responses whose true pit each rule found, how many had none, and the rollouts spent.
"""

from __future__ import annotations

import argparse
import random

from taskdef.train.pits import PitRule, find_pit
from taskdef.train.q_values import advantages, best_of_k


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chances", nargs="+", type=float, default=[0.6, 0.5, 0.4, 0.05, 0.05, 0.02])
    parser.add_argument("--rollouts", nargs="+", type=int, default=[6, 10, 20, 50, 100])
    parser.add_argument("--best-of", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    k = options.best_of
    exact = [*(1 - (1 - q) ** k for q in options.chances), 0.0]
    true_pit = advantages(exact).index(min(advantages(exact)))
    print("Q " + " ".join(f"{q:.3f}" for q in exact) + f"; the true pit is step {true_pit + 1} of {len(exact) - 1}")
    print(f"{'rollouts':>8} " + " ".join(f"{rule:>16} (none)" for rule in PitRule) + "  spent a response")
    draw = random.Random(options.seed)
    for rollouts in options.rollouts:
        found = dict.fromkeys(PitRule, 0)
        none = dict.fromkeys(PitRule, 0)
        spent = 0
        for _ in range(options.repeats):
            values, cost = estimate(options.chances, rollouts, k, draw)
            spent += cost
            for rule in PitRule:
                pit = find_pit(values, rule)
                found[rule] += pit == true_pit
                none[rule] += pit is None
        shares = " ".join(
            f"{found[rule] / options.repeats:>16.2f} ({none[rule] / options.repeats:4.2f})" for rule in PitRule
        )
        print(f"{rollouts:>8} {shares}  {spent / options.repeats:.0f}")


def estimate(chances: list[float], rollouts: int, k: int, draw: random.Random) -> tuple[list[float], int]:
    """V(x) and Q after each step as ``q_values.step_values`` estimates them, and the rollouts that took."""
    values, spent = [], 0
    for number, q in enumerate(chances):
        others = rollouts - 1 if number == 0 else rollouts  # the start leaves the wrong response itself out
        values.append(best_of_k(others, sum(draw.random() < q for _ in range(others)), k))
        spent += rollouts if number else 0  # those of the start are shared by all responses to the problem
        if values[-1] == 0:
            break
    return values + [0.0] * (len(chances) + 1 - len(values)), spent


if __name__ == "__main__":
    main()

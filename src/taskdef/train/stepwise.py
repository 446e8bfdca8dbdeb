r"""Per-step DPO: learning from the step at which a wrong response went wrong (arXiv 2406.14532).

Of a wrong response with steps y_1..S the pit p is found (``pits``) from Q and the advantages A (``q_values``). A pair
is one of

- ``response``: chosen a correct response to the same problem, rejected the wrong one's steps y_1..p;
- ``step``: chosen another step from the same state s = (x, y_1..p-1), rejected y_p; both from the SFT model.

With the SFT model as pi_ref the loss is DPO's, -log sigma(beta [log pi/pi_ref(chosen) - log pi/pi_ref(rejected)]).

Theory covers ``step`` only, with this objective: two steps a, b are drawn at a state from pi_ref (any weight w(a, b)
that is symmetric, not negative and joins all steps will do), and which of them is chosen is drawn too, a with chance
sigma(A_a - A_b):

    L(pi) = - sum over a, b of  w(a, b) sigma(A_a - A_b) log sigma(beta [log pi/pi_ref(a) - log pi/pi_ref(b)]).

For a pair, -P log sigma(z) - (1 - P) log sigma(-z) with P = sigma(A_a - A_b) is least at z = A_a - A_b, and
log pi/pi_ref = A / beta + constant reaches that for all pairs at once. So the optimum is pi = pi_ref exp(A / beta) / Z:
that of advantage-weighted RL, max over pi of E_(a ~ pi_ref)[exp(A_a / beta) log pi(a)]. This is ``prefer="sampled"``.
Always choosing the step of higher Q (``prefer="better"``) keeps the direction, but its loss has no finite optimum: how
far pi moves is then up to beta, learning rate and steps. To draw the chosen step with chance proportional to sigma(A_a
- A_b) alone, not to pi_ref as well, is another objective, whose optimum is another one.

No side of a pair that was cut ends in a stop token, for that would teach where not to stop; a chosen response keeps
its own, and a pit that ends its response loses it. What both sides share stands in the prompt: its terms cancel.
"""

from __future__ import annotations

from taskdef.errors import RunError
from taskdef.policy.attempts import AttemptFile, Problem
from taskdef.train.dpo import train_on_pairs
from taskdef.train.job import Training, TrainingJob
from taskdef.train.step_pairs import StepPairCounts, collect_step_pairs

ROLLOUTS_FILE = "rollouts.jsonl"
STEPS_FILE = "steps.jsonl"
"""Q along the wrong responses, with their pits."""


def train_stepwise(job: TrainingJob) -> Training:
    """Roll out, find the pits, learn from the pairs with ``train.dpo``. Raises RunError where there are none."""
    found = collect_step_pairs(
        job.policy,
        [Problem.of(sample) for sample in job.samples],
        job.config.train.stepwise,
        seed=job.config.seed,
        verifier=job.verifier,
        progress=job.progress,
        file=AttemptFile(job.directory, ROLLOUTS_FILE),
    )
    job.directory.write_records(STEPS_FILE, found.values)
    counts = figures(found.counts)
    if not found.pairs:
        left_out = found.counts.model_dump(exclude={"rollouts", "pairs"})
        reasons = [f"{name.replace('_', ' ')} {count}" for name, count in left_out.items() if count]
        raise RunError(
            f"stepwise: {len(job.samples)} samples give no pair ({', '.join(reasons)})",
            next_step="where samples are never solved, --set train.method=sft first and its model as train.start, or "
            "more rollouts (--set train.stepwise.rollouts=…); where they are never wrong, harder samples",
        )
    rate = found.counts.rollouts.truncation_rate or 0.0
    job.progress.line(
        f"stepwise: {len(found.pairs)} pairs from {found.counts.wrong_responses} wrong responses; "
        f"{counts['rollouts']} rollouts, {rate:.1%} of them cut by the token limit"
    )
    steps = train_on_pairs(
        found.pairs,
        job.policy,
        job.config,
        directory=job.directory,
        model_path=job.model_path,
        progress=job.progress,
    )
    return Training(steps, counts, [ROLLOUTS_FILE, STEPS_FILE])


def figures(counts: StepPairCounts) -> dict[str, int]:
    """The counts for the manifest, by name."""
    rollouts = counts.rollouts
    return counts.model_dump(exclude={"rollouts"}) | {
        "prefixes_asked_for": rollouts.asked,
        "prefixes_rolled_out": rollouts.prefixes,
        "rollouts": rollouts.rollouts,
        "rollout_tokens": rollouts.tokens,
        "truncated_rollouts": rollouts.truncated,
        "verifier_errors": rollouts.verifier_errors,
    }

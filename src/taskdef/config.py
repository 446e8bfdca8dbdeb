"""The settings of a run: one typed part a stage, unknown keys refused with the nearest known name.

Defaults are the paper's values for 7B models (arXiv 2505.17063, section 4.1 and appendix). ``PROFILES`` holds what
the ``small`` profile changes: sizes for small models and CPUs, never the method.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from taskdef.errors import ConfigError
from taskdef.readable import did_you_mean, nearest

_ALL_SETTINGS = "`taskdef run --dry-run TASK` prints every setting"
_FILE_FORM = "one setting a line, for instance `select.size: 200`"
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


class ConfigPart(BaseModel):
    """Base of every part: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InstructorConfig(ConfigPart):
    """How the instructor is called, shared by the stages that call it."""

    concurrency: int = Field(default=256, ge=1)
    """Most requests in flight at once; how many there are adapts by itself."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Limit of the endpoint, where it is known; none where not given."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """The same in tokens, prompts and responses together."""
    connect_timeout_seconds: float = Field(default=10.0, gt=0)
    """Longest wait for a connection."""
    first_byte_timeout_seconds: float = Field(default=120.0, gt=0)
    """Longest silence of the server: until the first byte, and between two."""
    timeout_seconds: float = Field(default=300.0, gt=0)
    """Longest wait for one whole response."""
    max_retries: int = Field(default=8, ge=0)
    """Further tries after a 429, a 5xx, a time-out, a broken connection or a body that is no completion."""
    budget: str | None = None
    """Cap on what the run's instructor calls may come to: 5usd, 2Mtokens, 500calls, or several with commas between."""
    price_input: float | None = Field(default=None, ge=0)
    """US dollars a million tokens of prompt, in place of the list of prices."""
    price_output: float | None = Field(default=None, ge=0)
    """US dollars a million tokens of response."""
    price_cached_input: float | None = Field(default=None, ge=0)
    """US dollars a million tokens of prompt that the endpoint had in its cache; ``price_input`` where not given."""
    cache: Path | None = None
    """Folder of answers shared between runs: what another run paid for is not paid for again."""
    batch: bool = False
    """Send requests through OpenAI's Batch API: half the price, answers within a day."""
    max_tokens: int = Field(default=2048, ge=1)
    """Longest response that is asked for, in tokens."""
    force_form: bool = False
    """Have the endpoint hold drafts and votes to the form of the answer (a pattern in the JSON schema). For instructors
    too weak to keep to it by themselves: outputs then hold no quotation marks and no backslashes."""


class PolicyConfig(ConfigPart):
    """How the base model (and every model made from it) is prompted and sampled."""

    prompt: Literal["auto", "chat", "plain"] = "auto"
    """``auto`` uses the model's chat template where it has one."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """Response limit in tokens, the same in scoring, training and evaluation."""
    max_prompt_tokens: int = Field(default=2048, ge=1)
    """Samples whose prompt is longer are dropped and counted."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Weights while sampling; ``auto`` is bfloat16 where the hardware has it."""
    batch_tokens: int = Field(default=65536, ge=1)
    """Upper bound of (prompt + response limit) x sequences decoded at once: bounds memory."""
    sampler: Literal["own", "vllm"] = "own"
    """What samples a model that is not being trained, for pass rates and evaluation: ``vllm`` is an extra."""


class VerifyConfig(ConfigPart):
    """The isolated verifier."""

    timeout_seconds: float = Field(default=2.0, gt=0)
    """Time limit for one reading or comparison; beyond it the verdict is VERIFIER_ERROR."""


class RetrieveConfig(ConfigPart):
    """Stage 1: keywords and passages (paper section 3.1)."""

    method: Literal["bm25", "dense", "hybrid", "random", "none", "adversarial"] = "bm25"
    """``dense`` searches by meaning, ``hybrid`` by words and meaning (extra ``dense``). ``none`` writes samples from
    the definition alone; ``random`` and ``adversarial`` (the least relevant passages) show what retrieval is worth."""
    embedding: str = "builtin:minilm-l6"
    """``dense``, ``hybrid``: a sentence-transformers model: a folder, a hub id, or ``builtin:minilm-l6``."""
    reranker: str | None = None
    """``bm25``, ``dense``, ``hybrid``: a cross-encoder that puts the first passages into a new order; a folder or a hub
    id (extra ``dense``)."""
    rerank: int = Field(default=200, ge=1)
    """How many passages of each search it reads."""
    passages: int = Field(default=10_000, ge=1)
    """How many passages are retrieved."""


class SelfInstructConfig(ConfigPart):
    """``synthesize.method: self-instruct`` (arXiv 2212.10560, section 2.2, and its code)."""

    examples: int = Field(default=8, ge=1)
    """Texts of the pool in one prompt: machine-made ones, and demos' inputs for the rest."""
    machine_examples: int = Field(default=2, ge=0)
    """Machine-made ones among them, as far as there are any yet."""
    new_texts: int = Field(default=8, ge=1)
    """New texts asked of one request: their code lets the list go on up to number 16."""
    requests: int = Field(default=5, ge=1)
    """Requests that see the same pool, before what they gave is added to it."""
    rouge_l: float = Field(default=0.7, gt=0, le=1)
    """A new text joins the pool where its ROUGE-L with every text of it is less than this."""


class TargenConfig(ConfigPart):
    """``synthesize.method: targen`` (arXiv 2310.17876). How many of each is our choice."""

    contexts: int = Field(default=20, ge=1)
    seeds: int = Field(default=10, ge=1)
    """Instance seeds asked of one request, all for one context."""
    labels: Literal["choices", "free"] = "choices"
    """``choices``: each instance is written for one of the task's ``answer.choices``, all equally often. ``free``:
    written without a label, for tasks whose answers are open."""


class SynthllmConfig(ConfigPart):
    """``synthesize.method: synthllm`` (arXiv 2503.19551, sections 4.2 and 5.1)."""

    level: Literal["all", 1, 2, 3] = "all"
    """Which of the three kinds of questions; ``all`` takes them in turn."""
    documents: int = Field(default=100, ge=1)
    """The passages, best first, that concepts are extracted from and questions are about (theirs: 520,000)."""
    questions: int = Field(default=5, ge=1)
    """Questions asked of one request about one document (levels 1 and 2)."""
    combination_questions: int = Field(default=3, ge=1)
    """Questions asked of one request about one combination of concepts (level 3)."""


class HumanRowsConfig(ConfigPart):
    """Examples of the task made by people, in place of written samples: the baseline to compare with."""

    file: Path | None = None
    """JSON lines with the fields of the test rows (``test.input`` and ``test.output`` say which); nothing is written,
    and nobody is asked."""
    rows: int | None = Field(default=None, ge=1)
    """How many are taken, drawn with the seed from those that overlap with no test row; all where not given."""


class SynthesizeConfig(ConfigPart):
    """Stage 2: pattern, initial samples, votes (paper section 3.1)."""

    method: Literal["knowledge-guided", "self-instruct", "targen", "synthllm"] = "knowledge-guided"
    """How drafts are written: the paper's way, or one of the baselines of its Table 3."""
    samples: int = Field(default=500, ge=1)
    """N, the initial samples wanted."""
    temperature: float = Field(default=0.7, ge=0)
    passage_characters: int = Field(default=2048, ge=1)
    """How much of a passage goes into the prompt."""
    pattern: bool = True
    """Whether the demos' general form is summed up first (only where there are demos)."""
    demos_per_prompt: int = Field(default=3, ge=0)
    votes: int = Field(default=16, ge=0)
    """Further answers asked of the instructor; the generator's own answer is one more vote."""
    vote_temperature: float = Field(default=0.7, ge=0)
    min_vote_share: float = Field(default=0.5, ge=0, le=1)
    """The winning answer needs more than this share of the readable votes."""
    near_duplicate_similarity: float = Field(default=0.9, gt=0, le=1)
    """Jaccard similarity of word 3-gram sets from which two inputs count as the same."""
    test_overlap: float = Field(default=0.5, gt=0, le=1)
    """Share of a sample's own word 8-grams found in one test input from which it is dropped."""
    max_draft_factor: float = Field(default=2.0, ge=1)
    """Drafts asked for at most, as a multiple of ``samples``, to replace those that are dropped."""
    human: HumanRowsConfig = HumanRowsConfig()
    self_instruct: SelfInstructConfig = SelfInstructConfig()
    targen: TargenConfig = TargenConfig()
    synthllm: SynthllmConfig = SynthllmConfig()


class WarmUpConfig(ConfigPart):
    """A short SFT on verified solutions, only when too few attempts can be read at all."""

    mode: Literal["auto", "never", "always"] = "auto"
    readable_below: float = Field(default=0.2, ge=0, le=1)
    """``auto`` warms up where less than this share of the base model's greedy attempts holds a readable answer."""
    stop_at_readable: float = Field(default=0.8, ge=0, le=1)
    """Early stop: share of readable attempts on a probe of training prompts."""
    max_steps: int = Field(default=30, ge=1)
    check_every: int = Field(default=2, ge=1)
    """Steps between probes."""
    probe_samples: int = Field(default=32, ge=1)
    batch: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-5, gt=0)


class AdaptConfig(ConfigPart):
    """Stage 3: difficulty adaptation (paper section 3.2)."""

    enabled: bool = True
    temperature: float = Field(default=0.7, ge=0)
    """Of the instructor while rewriting."""


class SelectConfig(ConfigPart):
    """Stage 4: pass rates and selection (paper section 3.3)."""

    strategy: Literal["high-potential", "easy", "hard", "random", "all"] = "high-potential"
    size: int = Field(default=500, ge=1)
    """M, the samples trained on."""
    attempts: int = Field(default=64, ge=1)
    """L, the attempts on a sample that the choice is made for: the most that ``rollouts: adaptive`` makes."""
    rollouts: Literal["adaptive"] | int = "adaptive"
    """``adaptive`` stops a sample as soon as its place is settled; a number makes just that many attempts on each
    (and takes the place of ``attempts``). The paper makes 64 on each."""
    agreement: float = Field(default=0.98, ge=0, le=1)
    """``adaptive`` goes on until this share of the choice by ``attempts`` on every sample is expected to be found."""

    @field_validator("rollouts", mode="before")
    @classmethod
    def _one_message_for_both_kinds(cls, value: Any) -> Any:
        if value != "adaptive" and (type(value) is not int or value < 1):
            raise PydanticCustomError("rollouts", "input should be adaptive, or a whole number of at least 1")
        return value

    @property
    def most_attempts(self) -> int:
        """The most attempts on one sample."""
        return self.attempts if self.rollouts == "adaptive" else self.rollouts

    temperature: float = Field(default=0.7, gt=0)


class ScheduleConfig(ConfigPart):
    """How long and how fast one algorithm learns from given rows."""

    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    batch: int = Field(default=64, ge=1)
    """Rows (solutions, or pairs) a step."""
    epochs: float = Field(default=3.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Ends training earlier (or later) than ``epochs`` would."""

    def steps(self, rows: int) -> int:
        """Optimizer steps on that many rows; the last step of an epoch takes what is left."""
        return self.max_steps or max(1, round(self.epochs * math.ceil(rows / self.batch)))


class SftConfig(ScheduleConfig):
    """SFT on solutions (paper section 4.1: the baseline); also what RFT ends in."""

    learning_rate: float = Field(default=2e-5, gt=0)


class RftConfig(ConfigPart):
    """RFT: which of the starting model's own solutions are learned (arXiv 2406.14532). The rest is ``train.sft``'s."""

    attempts: int = Field(default=100, ge=1)
    """Attempts on a sample; those made for its pass rate count."""
    temperature: float = Field(default=0.7, gt=0)
    most_solutions: int = Field(default=4, ge=1)
    """Own solutions kept of a sample, at most; too many self-made ones make learning go flat or worse."""
    min_distance: float = Field(default=0.2, ge=0, le=1)
    """Solutions without equations are distinct from this edit distance on, as a share of the longer one's length."""
    with_verified: bool = True
    """Whether the verified solution of each sample is learned too."""


class DpoConfig(ScheduleConfig):
    """DPO on pairs (arXiv 2406.14532: the control). That paper's values are not known to us: these are related work's
    (Self-Explore: beta 0.1, learning rate 1e-6, 3 epochs)."""

    learning_rate: float = Field(default=1e-6, gt=0)
    beta: float = Field(default=0.1, gt=0)
    """Weight of staying near the starting model; larger is nearer."""
    attempts: int = Field(default=16, ge=1)
    """Attempts on a sample, from which the pairs come; those made for its pass rate count."""
    temperature: float = Field(default=0.7, gt=0)
    pairs: int = Field(default=8, ge=1)
    """Pairs of a sample, at most: that paper looks at 8 wrong responses a question."""
    verified_chosen: bool = True
    """Where no attempt is correct, the sample's verified solution is the chosen side; else there is no pair."""


class PpoConfig(ConfigPart):
    """PPO (arXiv 1707.06347), the paper's second algorithm. No settings of the paper's own for it are known to us;
    gamma, lambda and the clips are the defaults of verl, the library of its code. Learning rate, batch, completions,
    temperature, KL and epochs over the samples are those of ``train``."""

    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount a token."""
    gae_lambda: float = Field(default=1.0, ge=0, le=1)
    """Of generalized advantage estimation: 1 trusts the rewards alone, 0 the next value alone."""
    clip: float = Field(default=0.2, gt=0)
    """How far the policy's ratio to the one that wrote the rollouts counts, on either side of 1."""
    value_clip: float = Field(default=0.5, gt=0)
    """How far a value may move from that at the rollouts before its gain stops counting; rewards are 0 to 1."""
    passes: int = Field(default=2, ge=1)
    """Times that each step's rollouts are learned from."""
    mini_batches: int = Field(default=2, ge=1)
    """Optimizer steps a pass."""
    value_learning_rate: float = Field(default=0.03, gt=0)
    """Of the value head: about how far one optimizer step can move a value."""
    value_into_policy: float = Field(default=0.1, ge=0)
    """Weight of the value loss in the network that the head shares with the policy; 0: the head alone learns it."""


class StepwiseConfig(ConfigPart):
    """Where wrong responses went wrong, for per-step DPO (arXiv 2406.14532). K and the number of wrong responses are
    the paper's, the rest is not known to us. Learning itself is set by ``train.dpo``."""

    best_of: int = Field(default=5, ge=1)
    """K: Q of a prefix is the chance that the best of K continuations is correct."""
    rollouts: int = Field(default=20, ge=2)
    """Rollouts of a prefix, from which Q is estimated: more than ``best_of``."""
    temperature: float = Field(default=0.7, gt=0)
    wrong_responses: int = Field(default=8, ge=1)
    """Different wrong responses to a sample that are looked into, at most."""
    steps: Literal["sentences", "lines"] = "sentences"
    """What a step of a response is; line breaks end sentences too."""
    most_steps: int = Field(default=32, ge=1)
    """Steps of a response, at most: the last takes what is left."""
    pit: Literal["least-advantage", "lowest-q", "first-zero"] = "least-advantage"
    """Which step counts as the one that went wrong."""
    pairs: Literal["response", "step"] = "response"
    """The chosen side: a correct ``response`` (the paper's recipe), or another ``step`` at the same place (what its
    theory covers)."""
    prefer: Literal["better", "sampled"] = "better"
    """With ``pairs: step``: the better step is chosen, or it is drawn which one, by their advantages, as in theory."""
    alternatives: int = Field(default=4, ge=1)
    """With ``pairs: step``: other steps that are looked into at each pit, at most."""

    @field_validator("rollouts")
    @classmethod
    def _one_more_than_best_of(cls, value: int, given: ValidationInfo) -> int:
        if (best_of := given.data.get("best_of")) is not None and value <= best_of:
            raise PydanticCustomError("rollouts", "input should be more than best_of={k}", {"k": best_of})
        return value


class TrainConfig(ConfigPart):
    """Stage 5. Settings that stand here alone are GRPO's (paper section 4.1), PPO's and RLOO's, or every method's."""

    method: Literal["grpo", "ppo", "rloo", "sft", "rft", "dpo", "stepwise"] = "grpo"
    start: str | None = None
    """A model to start from in place of the starting model: a folder, for instance an earlier run's ``model/``."""
    sft: SftConfig = SftConfig()
    rft: RftConfig = RftConfig()
    ppo: PpoConfig = PpoConfig()
    dpo: DpoConfig = DpoConfig()
    stepwise: StepwiseConfig = StepwiseConfig()
    adapter: Literal["none", "lora"] = "none"
    lora_rank: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-6, gt=0)
    completions: int = Field(default=16, ge=2)
    """Completions of one prompt in one step: the group."""
    batch: int = Field(default=64, ge=1)
    """Prompts a step."""
    epochs: float = Field(default=5.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Ends training earlier (or later) than ``epochs`` would."""
    temperature: float = Field(default=1.2, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    kl_coefficient: float = Field(default=0.01, ge=0)
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    """GRPO's loss, by TRL's names: docs/methods.md says what each does."""
    importance_sampling: Literal["token", "sequence"] = Field(default="token", validate_default=True)
    """GRPO: the ratio of new to old policy, of each token or of whole completions (``sequence`` is GSPO)."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """GRPO: what advantages are divided by: the standard deviation of the group's or the step's rewards, or nothing."""
    iterations: int = Field(default=1, ge=1)
    """GRPO, RLOO: optimizer steps on the same rollouts. With 1 the ratio of new to old policy is 1 everywhere, so that
    clipping and ``importance_sampling`` change nothing."""
    clip: float = Field(default=0.2, gt=0)
    """GRPO, RLOO: how far that ratio counts below 1, and above where ``clip_high`` is not given."""
    clip_high: float | None = Field(default=None, gt=0)
    """How far it counts above 1; for ``cispo`` the highest ratio itself, 5 where none is given."""
    format_reward: float = Field(default=0.0, ge=0, le=1)
    """Reward of a wrong answer that can be read (paper's code: 0 in GSM8K, 0.1 in tasks answered in tags)."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    micro_batch: int = Field(default=16, ge=1)
    """Sequences in one forward and backward pass: bounds memory, changes nothing else."""
    save_every: int = Field(default=50, ge=1)
    """Steps between checkpoints."""

    @field_validator("importance_sampling")
    @classmethod
    def _meant_for_the_loss(cls, value: str, given: ValidationInfo) -> str:
        wanted = {"luspo": "sequence", "vespo": "token"}.get(given.data.get("loss_type", ""), value)
        if value != wanted:
            raise PydanticCustomError(
                "importance_sampling",
                "input should be '{wanted}' with loss_type={loss}",
                {"wanted": wanted, "loss": given.data["loss_type"]},
            )
        return value

    @property
    def highest_clip(self) -> float | None:
        """``clip_high``, or what it is for the loss where none is given (arXiv 2510.13786 has 5 for CISPO)."""
        return 5.0 if self.loss_type == "cispo" and self.clip_high is None else self.clip_high

    @property
    def by_rollouts(self) -> bool:
        """Whether ``method`` learns from completions that it samples at every step."""
        return self.method in ("grpo", "ppo", "rloo")

    def steps(self, samples: int) -> int:
        """Steps of the methods by rollouts on a training set of that many samples: rollouts are made once in each."""
        steps_an_epoch = max(1, samples // min(self.batch, max(1, samples)))
        return self.max_steps or max(1, round(self.epochs * steps_an_epoch))

    def most_steps(self, samples: int) -> int:
        """Steps on a training set of that many samples by ``method``, at most."""
        if self.by_rollouts:
            return self.steps(samples)
        if self.method == "sft":
            return self.sft.steps(samples)
        if self.method == "rft":
            return self.sft.steps(samples * (self.rft.most_solutions + self.rft.with_verified))
        if self.method == "dpo":
            return self.dpo.steps(samples * self.dpo.pairs)
        drawn = self.stepwise.pairs == "step" and self.stepwise.prefer == "sampled"
        return self.dpo.steps(samples * self.stepwise.wrong_responses * (self.stepwise.alternatives if drawn else 1))

    def most_rollouts(self, samples: int) -> int:
        """Completions that ``method`` samples on a training set of that many samples, at most."""
        if self.by_rollouts:
            return self.steps(samples) * self.batch * self.completions
        stepwise = self.stepwise
        forks = stepwise.alternatives if stepwise.pairs == "step" else 0
        prefixes = 1 + stepwise.wrong_responses * (stepwise.most_steps + forks)
        attempts = {
            "sft": 0,
            "rft": self.rft.attempts,
            "dpo": self.dpo.attempts,
            "stepwise": stepwise.rollouts * prefixes,
        }
        return samples * attempts[self.method]


class EvaluateConfig(ConfigPart):
    """Stage 6: held-out accuracy of base, warm-up and tuned model."""

    limit: int | None = Field(default=None, ge=1)
    """Evaluate only the first rows of the test set."""


class RunConfig(ConfigPart):
    """All settings of one run."""

    profile: Literal["paper", "small"] = "paper"
    base_model: str = "builtin:smollm2-135m"
    """A path, a hub id, or ``builtin:smollm2-135m``."""
    instructor: str = ""
    """``openai:MODEL[@BASE_URL]``, ``procedural:GENERATOR`` or ``scripted:FILE``."""
    seed: int = Field(default=0, ge=0)
    instruct: InstructorConfig = InstructorConfig()
    policy: PolicyConfig = PolicyConfig()
    verify: VerifyConfig = VerifyConfig()
    retrieve: RetrieveConfig = RetrieveConfig()
    synthesize: SynthesizeConfig = SynthesizeConfig()
    warm_up: WarmUpConfig = WarmUpConfig()
    adapt: AdaptConfig = AdaptConfig()
    select: SelectConfig = SelectConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()


PROFILES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {
        "policy": {"max_new_tokens": 32, "max_prompt_tokens": 1024, "batch_tokens": 16384},
        "synthesize": {"samples": 200, "votes": 4},
        "warm_up": {"batch": 16},
        "select": {"size": 150, "attempts": 16},
        "train": {
            "learning_rate": 2e-5,  # full weights of 135M parameters; 1e-6 is for 7B
            "completions": 8,
            "batch": 8,
            "max_steps": 100,
            "micro_batch": 64,
            "save_every": 25,
            "sft": {"batch": 16},
            "rft": {"attempts": 16},
            "dpo": {"batch": 16, "learning_rate": 1e-5},
        },
    },
}
"""What each profile changes in the defaults: sizes, never the method."""


def build_config(
    *,
    profile: str | None = None,
    files: list[Path] | None = None,
    overrides: dict[str, Any] | None = None,
    base: RunConfig | None = None,
) -> RunConfig:
    """Merge defaults, profile, YAML files and dotted overrides, later ones winning.

    ``overrides`` maps dotted keys (``select.size``) to values; strings are read as YAML scalars. ``base``, the settings
    of an existing run, takes the place of defaults and profile.
    Raises ConfigError for an unknown key (naming the nearest known one), a wrong type or an unreadable file.
    """
    layers: list[dict[str, Any]] = [read_settings_file(path) for path in files or []]
    dotted: dict[str, Any] = {}
    for key, value in (overrides or {}).items():
        _set_dotted(dotted, key, scalar(value) if isinstance(value, str) else value, f"--set {key}")
    layers.append(dotted)
    default = base.profile if base else "paper"
    chosen = profile or next((layer["profile"] for layer in reversed(layers) if "profile" in layer), default)
    if not isinstance(chosen, str) or chosen not in PROFILES:
        raise ConfigError(f"profile: {chosen!r} is not known", next_step=f"choose one of {', '.join(PROFILES)}")
    merged: dict[str, Any] = {}
    for layer in [base.model_dump() if base else PROFILES[chosen], *layers, {"profile": chosen}]:
        merged = _merge(merged, layer)
    return parse_config(merged)


def parse_config(values: dict[str, Any]) -> RunConfig:
    """Validate a nested mapping. Raises ConfigError with one line a fault, each naming the dotted key."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        known = known_keys()
        lines = []
        for fault in error.errors():
            key = ".".join(str(part) for part in fault["loc"])
            if fault["type"] == "extra_forbidden":
                lines.append(f"{key}: no such setting{_nearest_key(key, known)}")
            else:
                lines.append(f"{key}: {fault['msg'].lower()} (given: {fault['input']!r})")
        raise ConfigError("\n".join(lines), next_step=_ALL_SETTINGS) from None


def known_keys(part: type[BaseModel] = RunConfig, prefix: str = "") -> list[str]:
    """Every dotted key that can be set."""
    keys: list[str] = []
    for name, field in part.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, ConfigPart):
            keys += known_keys(annotation, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def flatten(config: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value, for comparison and display."""
    flat: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, ConfigPart):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def paper_values() -> dict[str, Any]:
    """Every dotted key with the paper's value: the defaults, but where the default departs from the paper."""
    return flatten(RunConfig()) | {"select.rollouts": 64}


def digest(value: Any) -> str:
    """SHA-256 of a JSON-serialisable value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _nearest_key(key: str, known: list[str]) -> str:
    by_last_part = {name.rsplit(".", 1)[-1]: name for name in known}
    close = nearest(key, known, cutoff=0.6)
    last = None if close else nearest(key.rsplit(".", 1)[-1], by_last_part, cutoff=0.6)
    return did_you_mean(by_last_part[last] if last else close)


def scalar(text: str) -> Any:
    """Read one command-line value as YAML does, but take ``1e-6`` as a number (YAML 1.1 wants ``1.0e-6``)."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _set_dotted(target: dict[str, Any], key: str, value: Any, place: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise ConfigError(f"{place}: {parent} was already given a plain value", next_step=_ALL_SETTINGS)
    target[last] = value


def _merge(base: dict[str, Any], layer: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in layer.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def read_settings_file(path: Path) -> dict[str, Any]:
    """A YAML file of settings as a nested mapping. Raises ConfigError where it is none."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise ConfigError(message, next_step="give a YAML file of settings, or leave --config out") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}", next_step=_FILE_FORM) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        message = f"{path}: expected a mapping of settings, found {type(values).__name__}"
        raise ConfigError(message, next_step=_FILE_FORM)
    settings = {str(key): value for key, value in values.items() if "." not in str(key)}
    for key, value in values.items():
        if "." in str(key):
            _set_dotted(settings, str(key), value, f"{path}: {key}")
    return settings

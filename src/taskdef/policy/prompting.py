"""The prompt a policy sees for a task input: the same in scoring, training and evaluation.

Zero-shot, as the paper evaluates: the input, then the output format. The description goes to the instructor only;
what the tuned model is told at the end is what a user would send it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from taskdef.config import PolicyConfig
from taskdef.errors import BaseModelError, TestSetError
from taskdef.records import TaskDefinition

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def task_prompt(definition: TaskDefinition, sample_input: str) -> str:
    """The user's message for an input."""
    return f"{sample_input.strip()}\n\n{definition.output_format.strip()}"


class PromptEncoder:
    """Turns task inputs into prompt tokens, with the model's chat template or as plain text.

    Raises BaseModelError where a chat template is asked for and the tokenizer has none.
    """

    def __init__(
        self,
        definition: TaskDefinition,
        tokenizer: PreTrainedTokenizerBase,
        style: Literal["auto", "chat", "plain"] = "auto",
    ) -> None:
        has_template = bool(getattr(tokenizer, "chat_template", None))
        if style == "chat" and not has_template:
            raise BaseModelError(
                "policy.prompt is 'chat', but this model's tokenizer has no chat template",
                next_step="--set policy.prompt=plain",
            )
        self.definition = definition
        self.tokenizer = tokenizer
        self.is_chat = has_template if style == "auto" else style == "chat"

    def prompt_ids(self, sample_input: str) -> list[int]:
        """Tokens of the finished prompt."""
        message = task_prompt(self.definition, sample_input)
        if self.is_chat:
            encoded = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": message}], add_generation_prompt=True, return_dict=True
            )
            return list(encoded["input_ids"])
        return list(self.tokenizer(message + "\n")["input_ids"])

    def completion_ids(self, text: str) -> list[int]:
        """Tokens of a wanted completion, ended by the end-of-sequence token."""
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]

    def decode(self, ids: list[int]) -> str:
        """The text of completion tokens, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def prompt_limit(name: str, context: int | None, config: PolicyConfig) -> int:
    """Longest prompt in tokens that leaves room for a full response in a context of that many tokens (None: no bound).

    Raises BaseModelError where the response alone fills the context.
    """
    if context is None:
        return config.max_prompt_tokens
    if context <= config.max_new_tokens:
        raise BaseModelError(
            f"{name}: its context of {context} tokens has no room for a prompt beside a response of "
            f"{config.max_new_tokens}",
            next_step=f"--set policy.max_new_tokens={max(1, context // 2)}",
        )
    return min(config.max_prompt_tokens, context - config.max_new_tokens)


def refuse_long_rows(
    rows: Iterable[tuple[str, str]], encoder: PromptEncoder, name: str, context: int | None, config: PolicyConfig
) -> None:
    """Raise TestSetError where the longest prompt of held-out rows, given as (place, input), is over the limit."""
    limit = prompt_limit(name, context, config)
    length, place = max(((len(encoder.prompt_ids(text)), place) for place, text in rows), default=(0, ""))
    if length <= limit:
        return
    changes = []
    if length > config.max_prompt_tokens:
        changes.append(f"--set policy.max_prompt_tokens={length}")
    if context is not None and length >= context:
        step = f"shorten or leave out the row: {name} has a context of {context} tokens"
    else:
        if context is not None and length + config.max_new_tokens > context:
            changes.append(f"--set policy.max_new_tokens={context - length}")
        step = " ".join(changes)
    raise TestSetError(
        f"{place}: its prompt has {length} tokens, the most of all held-out rows; the limit is {limit}", next_step=step
    )

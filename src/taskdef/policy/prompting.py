"""The prompt a policy sees for a task input: the same in scoring, training and evaluation.

Zero-shot, as the paper evaluates: the input, then the output format. The description goes to the instructor only;
what the tuned model is told at the end is what a user would send it.
"""

from __future__ import annotations

from taskdef.records import TaskDefinition


def task_prompt(definition: TaskDefinition, sample_input: str) -> str:
    """The user's message for an input."""
    return f"{sample_input.strip()}\n\n{definition.output_format.strip()}"

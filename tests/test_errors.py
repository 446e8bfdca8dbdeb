"""Errors read as a message and a next step; every user fault is a TaskdefError."""

import inspect

from taskdef import errors
from taskdef.errors import ConfigError, Stopped, TaskdefError


def test_the_next_step_stands_on_a_line_of_its_own() -> None:
    assert str(ConfigError("select.size: no", next_step="try 3")) == "select.size: no\n  next: try 3"


def test_without_a_next_step_the_message_stands_alone() -> None:
    error = ConfigError("select.size: no")
    assert (str(error), error.message, error.next_step) == ("select.size: no", "select.size: no", None)


def test_every_error_is_under_the_one_root_and_drawn_in_the_docstring() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    assert Stopped in kinds
    for kind in kinds:
        assert issubclass(kind, TaskdefError)
        assert kind.__name__ in (errors.__doc__ or "")

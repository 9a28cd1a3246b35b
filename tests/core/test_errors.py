from __future__ import annotations

import inspect

import pytest

from painvrl.core import errors
from painvrl.core.errors import (
    ConfigError,
    Diverged,
    EmptyEnvironment,
    TrialFailure,
    UserError,
)


def test_a_user_error_says_where_which_rule_and_what_was_found() -> None:
    error = ConfigError("must be at most 1", file="a.yaml", key="mask.sparsity", value=1.5)
    assert str(error) == "a.yaml: mask.sparsity: must be at most 1 (found 1.5)"
    assert (error.file, error.key, error.rule, error.value) == (
        "a.yaml",
        "mask.sparsity",
        "must be at most 1",
        1.5,
    )


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "is empty"),
        ({"file": "a.csv"}, "a.csv: is empty"),
        ({"key": "data"}, "data: is empty"),
        ({"value": ""}, "is empty (found '')"),
    ],
)
def test_a_user_error_leaves_out_what_it_does_not_know(place: dict[str, str], text: str) -> None:
    assert str(UserError("is empty", **place)) == text


def test_false_and_zero_count_as_values_that_were_found() -> None:
    assert str(UserError("must be positive", value=0)) == "must be positive (found 0)"
    assert str(UserError("must be true", value=False)) == "must be true (found False)"


def test_trial_failures_have_distinct_machine_readable_reasons() -> None:
    reasons = [failure.reason for failure in (TrialFailure, Diverged, EmptyEnvironment)]
    assert len(set(reasons)) == 3
    assert all(reason.isidentifier() for reason in reasons)


def test_the_tree_in_the_docstring_names_every_error_with_its_parent() -> None:
    drawn = [line for line in (errors.__doc__ or "").splitlines() if "PainvrlError" in line or "──" in line]
    heads = [line.split("── ")[-1].split()[0] for line in drawn]
    depths = [
        (line.index(head) - drawn[0].index(heads[0])) // 4 for line, head in zip(drawn, heads, strict=True)
    ]
    path: list[str] = []
    tree: dict[str, str | None] = {}
    for head, depth in zip(heads, depths, strict=True):
        path[depth:] = [head]
        tree[head] = path[depth - 1] if depth else "Exception"
    defined = {
        name: kind.__base__.__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == errors.__name__
    }
    assert tree == defined

"""One switch for ``torch.compile``: every step function goes through it, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
R = TypeVar("R")


def step_function(function: Callable[P, R], *, compiled: bool) -> Callable[P, R]:
    """``function``, compiled into one graph if ``compiled``.

    A graph break is an error (``fullgraph``): it would be a place where the host takes part in a step.
    Gradients that a step takes itself are traced with it.
    """
    if not compiled:
        return function
    torch._dynamo.config.trace_autograd_ops = True  # noqa: SLF001 (torch offers no other switch)
    return cast("Callable[P, R]", torch.compile(function, fullgraph=True))

"""One switch for ``torch.compile``: a step function goes through it whole or not at all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

# Gradients that a step takes itself are traced with it. A study that turns a width has tables of another
# shape in every trial; they share a graph instead of compiling one each.
_WHILE_CALLED = {
    "trace_autograd_ops": True,
    "force_parameter_static_shapes": False,
    "force_nn_module_property_static_shapes": False,
    "recompile_limit": 64,
}


def step_function(function: Callable[P, R], *, compiled: bool, backend: str = "inductor") -> Callable[P, R]:
    """``function``, compiled into one graph if ``compiled``.

    A graph break is an error (``fullgraph``): it would be a place where the host takes part in a step.

    Args:
        function: of tensors, and of plain values that decide its graph.
        compiled: whether to compile it.
        backend: torch's name of a compiler; tests take one that needs no C++.
    """
    if not compiled:
        return function
    config = torch._dynamo.config  # noqa: SLF001 (torch offers no other switches)
    known = {name: value for name, value in _WHILE_CALLED.items() if hasattr(config, name)}
    graph = torch.compile(function, fullgraph=True, backend=backend)

    @functools.wraps(function)
    def step(*args: P.args, **kwargs: P.kwargs) -> R:
        with config.patch(known):
            return graph(*args, **kwargs)

    return step

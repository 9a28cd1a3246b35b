"""Adam for tables of which a step touches few rows.

The rule is that of ``torch.optim.SparseAdam``: moments of rows that a step does not touch stay as they
are. Working on the rows alone, it needs no sparse tensors, whose layout the host would have to ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


class LazyAdam:
    """Updates the given rows of tables in place.

    Args:
        tables: ``[n, width]`` each; their moments are made here, as large as they are.
        learning_rate: of Adam.
    """

    def __init__(self, tables: Iterable[Tensor], learning_rate: float) -> None:
        self._tables = tuple(tables)
        self._first = tuple(torch.zeros_like(table) for table in self._tables)
        self._second = tuple(torch.zeros_like(table) for table in self._tables)
        self._learning_rate = learning_rate
        self._steps = 0

    @torch.no_grad()
    def step(self, touched: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """One step, for every table in order.

        Args:
            touched: for each table the distinct row numbers ``[m]``, the rows' values ``[m, width]`` before
                the step, and their gradients.
        """
        self._steps += 1
        correction = (1 - _BETA_2**self._steps) ** 0.5 / (1 - _BETA_1**self._steps)
        state = zip(self._tables, self._first, self._second, touched, strict=True)
        for table, all_first, all_second, (index, rows, gradient) in state:
            first = all_first.index_select(0, index).lerp_(gradient, 1 - _BETA_1)
            second = all_second.index_select(0, index).mul_(_BETA_2)
            second.addcmul_(gradient, gradient, value=1 - _BETA_2)
            all_first.index_copy_(0, index, first)
            all_second.index_copy_(0, index, second)
            size = second.sqrt_().add_(_EPSILON)
            moved = rows.clone().addcdiv_(first, size, value=-self._learning_rate * correction)
            table.index_copy_(0, index, moved)

    def state_dict(self) -> dict[str, Any]:
        """What the next steps depend on besides the tables; its tensors are the optimiser's own."""
        return {"steps": self._steps, "first": self._first, "second": self._second}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` of an optimiser of equal tables was taken."""
        self._steps = state["steps"]
        for mine, there in ((self._first, state["first"]), (self._second, state["second"])):
            for moments, kept in zip(mine, there, strict=True):
                moments.copy_(kept)

"""What is measured: the cut-offs, and the metric that early stopping watches."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from painvrl.core.settings import Settings


class EvaluationConfig(Settings):
    """``ks``: cut-offs of the metrics, all from one ranking.

    ``block_cells``: scores (users times candidates) held at once; a block has at least one user. The
    default is 16 MiB of float32: about what a processor's cache holds, and enough to keep a GPU busy. A sweep
    holds up to five times as many.
    """

    ks: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = (5, 10, 20, 50)
    block_cells: int = Field(default=2**22, ge=1)

    @field_validator("ks")
    @classmethod
    def _sorted_and_distinct(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if not ks:
            raise ValueError("must name at least one cut-off")
        if len(set(ks)) != len(ks):
            raise ValueError("must not name a cut-off twice")
        return tuple(sorted(ks))

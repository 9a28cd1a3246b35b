"""The base of every configuration class: frozen, keyword-only, and strict about unknown keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen group of settings; lives beside the code that it configures.

    ``allow_inf_nan=False`` keeps a YAML ``.nan`` from passing every comparison.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


@dataclass(frozen=True)
class AfterTraining:
    """Marks a hyperparameter that is applied to a trained model: another value of it needs no training.

    A study sweeps such a one after each training instead of sampling it before. The mark stands in the
    annotation, ``Annotated[float, AfterTraining()]``.
    """

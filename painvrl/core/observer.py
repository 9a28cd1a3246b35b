"""How a run tells what it is doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

GOES_ON = "continues from "
"""How the first stage of a run is called that continues where it was killed; the place follows."""

KEPT = "kept"
"""What the engine passes on in place of a stage when the state of a run has been saved."""


class Observer(Protocol):
    """Receives the stages and curves of a run as they happen."""

    def stage(self, name: str) -> None:
        """A stage begins: ``pretrain``, ``round 1: environments``, ``round 1: mask``, ...

        A run that continues says so first (:data:`GOES_ON`); then it tells again what was reported before.
        """

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """A point of the curves of a training: its epoch, loss and validation metrics."""


class NullObserver:
    """No one listens."""

    def stage(self, name: str) -> None:
        """Ignore it."""

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Ignore it."""

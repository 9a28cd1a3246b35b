"""What a run has come to so far: what it told and took, and what the rest of it needs.

A run that is killed and goes on begins with the journal of the process before. It tells again what was
told, and its stages take up what is there instead of computing it. Every stage is a function of the
configuration, the data and the stages before, so what is not there is computed, with the same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from painvrl.core.progress import GOES_ON, Observer
from painvrl.model.fit import Best, FitState
from painvrl.run.unfinished import NullSavepoint, Savepoint, State

_STAGE, _CURVE = "stage", "curve"


class Journal:
    """Tells an observer how a run proceeds, and keeps what it takes to go on.

    Attributes:
        seconds: wall time by stage, that of a process before included.
        epochs: chosen epoch by training.
    """

    def __init__(self, observer: Observer, savepoint: Savepoint | None = None) -> None:
        self._observer = observer
        self._savepoint = savepoint or NullSavepoint()
        self.seconds: dict[str, float] = {}
        self.epochs: dict[str, int] = {}
        self._told: list[Sequence[Any]] = []
        self._kept: dict[str, State] = {}
        self._found: dict[str, State] = {}
        self._training: Mapping[str, Any] | None = None
        self._since: tuple[str, float] | None = None

    def resume(self) -> None:
        """Go on where an earlier process was killed, if it left anything; else begin."""
        state = self._savepoint.load()
        if state is None:
            return
        self.seconds.update(state["seconds"])
        self.epochs.update(state["epochs"])
        self._kept = dict(state["kept"])
        self._found = dict(state["kept"])
        self._training = state["training"]
        self._told = state["told"]
        self._observer.stage(GOES_ON + self._place())
        for kind, *what in self._told:
            if kind == _STAGE:
                self._observer.stage(*what)
            else:
                self._observer.curve(*what)

    @contextmanager
    def stage(self, name: str, label: str | None = None) -> Iterator[None]:
        """Tell of ``label``, which a run has once, and add the block's wall time to ``seconds[name]``."""
        entry = [_STAGE, label or name]
        if entry not in self._told:  # else it was told by the process before
            self._told.append(entry)
            self._observer.stage(label or name)
        self._since = (name, time.perf_counter())
        yield
        self.seconds = self._seconds_now()
        self._since = None

    def curve(self, name: str, epoch: int, values: Mapping[str, float]) -> None:
        """Tell of a point of a training's curve."""
        self._told.append([_CURVE, name, epoch, dict(values)])
        self._observer.curve(name, epoch, values)

    def points(self, name: str) -> tuple[tuple[int, Mapping[str, float]], ...]:
        """The points of a training's curve that were told: an epoch, and its loss and metrics."""
        curves = (entry for entry in self._told if entry[0] == _CURVE)
        return tuple((epoch, values) for _, curve, epoch, values in curves if curve == name)

    def keep(self, name: str, state: State) -> None:
        """What came of a stage and others need; a later state of that name takes its place.

        Its tensors must not change any more. This is a point at which the run may be saved.
        """
        self._kept[name] = state
        self._savepoint.save(self._state)

    def forget(self, name: str) -> None:
        """Nobody needs it any more."""
        self._kept.pop(name, None)

    def take_up(self, name: str, device: torch.device) -> State | None:
        """What an earlier process kept under ``name``, for the first who asks; ``None`` if it did not."""
        found = self._found.pop(name, None)
        return None if found is None else _on_device(found, device)

    def is_training(self, name: str) -> bool:
        """Whether an earlier process was killed within this training."""
        return self._training is not None and self._training["name"] == name

    def training(self, name: str) -> _KeptTraining:
        """Where the training called ``name`` is kept while it is under way."""
        return _KeptTraining(self, name)

    def take_up_training(self, name: str) -> FitState | None:
        """The training called ``name`` where an earlier process left it, for the first who asks."""
        if self._training is None or self._training["name"] != name:
            return None
        state, self._training = self._training["state"], None
        return FitState(**{**state, "best": Best(**state["best"])})

    def save_training(self, name: str, make: Callable[[], FitState]) -> None:
        """A point at which the run may be saved."""
        self._savepoint.save(lambda: {**self._state(), "training": {"name": name, "state": make()}})

    def _state(self) -> State:
        return {
            "seconds": self._seconds_now(),
            "epochs": self.epochs,
            "kept": self._kept,
            "training": None,
            "told": self._told,
        }

    def _seconds_now(self) -> dict[str, float]:
        if self._since is None:
            return self.seconds
        name, start = self._since
        return {**self.seconds, name: self.seconds.get(name, 0.0) + time.perf_counter() - start}

    def _place(self) -> str:
        if self._training is not None:
            return f"epoch {self._training['state']['epoch']} of {self._training['name']}"
        return f"the end of {next(what for kind, what, *_ in reversed(self._told) if kind == _STAGE)}"


class _KeptTraining:
    """A :class:`painvrl.model.fit.FitKeeper` whose state is part of the run's."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal = journal
        self._name = name

    def load(self) -> FitState | None:
        """Where to go on."""
        return self._journal.take_up_training(self._name)

    def save(self, make: Callable[[], FitState]) -> None:
        """Offer a state."""
        self._journal.save_training(self._name, make)


def _on_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: _on_device(part, device) for name, part in value.items()}
    return [_on_device(part, device) for part in value] if isinstance(value, list) else value

"""Several trainings on one device at MovieLens' size, where launches are what a step takes.

A training is that of the backbone of studies/movielens.yaml: so many whole-data epochs, no rankings. Beside
each other go threads with a stream each, processes, and steps that were captured as a CUDA graph each.
"""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from benchmarks import ours
from benchmarks.gpu_data import Place, drawn, study_settings
from benchmarks.published_folders import Size
from painvrl.core.device import use_device
from painvrl.core.rng import generator
from painvrl.model.ultragcn import Backbone

MOVIELENS = Size(users=671, items=9066, interactions=100_004, matrices={"text": 384, "genres": 20})
WARM_UP = 3
REPLY_SECONDS = 90.0
"""How long a process may take to start or to train."""


def measurements(place: Place) -> Mapping[str, Callable[[], Mapping[str, object]]]:
    """By name."""
    counts = (1, 2) if place.reduced else (1, 2, 4, 8)
    processes = Processes(max(counts), place)
    return {
        f"{name}, K = {count}": functools.partial(way, count)
        for name, way in (
            ("threads with streams", functools.partial(in_threads, place)),
            ("CUDA graphs with streams", functools.partial(as_graphs, place)),
            ("processes", processes.trained),
        )
        for count in counts
    }


def epochs_of(place: Place) -> int:
    """How long a training is."""
    return 6 if place.reduced else study_settings("movielens").training.max_epochs


@functools.cache
def data(place: Place) -> tuple[Tensor, Any]:
    """Features and training part of MovieLens' size."""
    return drawn(MOVIELENS.scaled(0.1) if place.reduced else MOVIELENS, place.device)


def fresh(place: Place) -> Backbone:
    """A backbone that no one has trained."""
    return ours.model(*data(place), study_settings("movielens").backbone)


def figures(seconds: float, count: int, place: Place, loss: float) -> Mapping[str, object]:
    """Of ``count`` trainings that took ``seconds`` together; ``loss`` is one's last."""
    return {
        "trainings_a_minute": 60 * count / seconds,
        "seconds": seconds,
        "step_of_all_ms": 1000 * seconds / epochs_of(place),
        "loss": loss,
    }


def in_threads(place: Place, count: int) -> Mapping[str, object]:
    """Each thread launches on a stream of its own."""
    place.need_cuda()
    training = study_settings("movielens").training
    models = [fresh(place) for _ in range(count)]
    streams = [torch.cuda.Stream(place.device) for _ in models]
    place.synchronize()  # the streams read what was made on another one

    def train(model: Backbone, stream: torch.cuda.Stream, epochs: int) -> float:
        with torch.cuda.stream(stream):
            return ours.epochs(model, training, epochs)

    for model, stream in zip(models, streams, strict=True):
        train(model, stream, WARM_UP)
    place.synchronize()
    with ThreadPoolExecutor(count) as pool:
        start = time.perf_counter()
        losses = list(pool.map(train, models, streams, [epochs_of(place)] * count))
        place.synchronize()
        seconds = time.perf_counter() - start
    return figures(seconds, count, place, losses[0])


def as_graphs(place: Place, count: int) -> Mapping[str, object]:
    """Each step, the optimiser's included, is one launch of what was captured once."""
    place.need_cuda()
    steps = [Captured(fresh(place)) for _ in range(count)]
    place.synchronize()
    start = time.perf_counter()
    for _ in range(epochs_of(place)):
        for step in steps:
            step.replay()
    place.synchronize()
    seconds = time.perf_counter() - start
    return figures(seconds, count, place, float(steps[0].loss))


class Captured:
    """A step of a model as a CUDA graph, on a stream of its own.

    Which items' ID parts a step sees is drawn on the host, as ever, and copied to where the graph reads it.
    """

    def __init__(self, model: Backbone) -> None:
        self._model = model
        self._draws = generator(0, "benchmark", "fit")
        self._kept = model.kept_items(self._draws)
        self._stream = torch.cuda.Stream(model.weight.device)
        self._graph = torch.cuda.CUDAGraph()
        rate = study_settings("movielens").training.learning_rate
        self._optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True, capturable=True)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP):  # makes the moments, and whatever is made at a first call
                self._step()
        with torch.cuda.graph(self._graph, stream=self._stream):
            self.loss = self._step()

    def _step(self) -> Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._model.full_loss(self._kept)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def replay(self) -> None:
        """One step, asynchronously."""
        with torch.cuda.stream(self._stream):
            kept = self._model.kept_items(self._draws)
            if kept is not None and self._kept is not None:
                self._kept.copy_(kept, non_blocking=True)
            self._graph.replay()


class Processes:
    """Processes that train when they are reported to; started when the first one is asked for.

    They are spawned: a process that was forked cannot use CUDA.
    """

    def __init__(self, most: int, place: Place) -> None:
        self._most = most
        self._place = place
        self._ends: list[Connection] = []

    def trained(self, count: int) -> Mapping[str, object]:
        """Let ``count`` of them train at once; the others wait."""
        if not self._ends:
            self._start()
        ends = self._ends[:count]
        for end in ends:
            _reply(end)  # it has made its model
        start = time.perf_counter()
        for end in ends:
            end.send(None)
        losses = [_reply(end) for end in ends]
        return figures(time.perf_counter() - start, count, self._place, losses[0])

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for _ in range(self._most):
            mine, theirs = context.Pipe()
            context.Process(target=train_when_reported, args=(theirs, self._place), daemon=True).start()
            theirs.close()  # so that the death of the process is the end of the pipe
            self._ends.append(mine)
        for end in self._ends:
            _reply(end)


def _reply(end: Connection) -> float:
    """The loss that a process has come to.

    Raises:
        RuntimeError: it has died, or says nothing.
    """
    if not end.poll(REPLY_SECONDS):
        raise RuntimeError(f"a process said nothing for {REPLY_SECONDS:.0f} s")
    try:
        return float(end.recv())
    except EOFError:
        raise RuntimeError("a process has died; it said why on stderr") from None


def train_when_reported(reported: Connection, place: Place) -> None:
    """Train once to warm up, and say so; then make a model, say so, and train it at a word, for ever."""
    if place.device.type == "cuda":
        use_device(torch.device("cuda", 0))
    training = study_settings("movielens").training
    model = fresh(place)
    reported.send(ours.epochs(model, training, WARM_UP))
    while True:
        model = fresh(place)
        place.synchronize()
        reported.send(0.0)
        try:
            reported.recv()
        except EOFError:
            return
        loss = ours.epochs(model, training, epochs_of(place))
        place.synchronize()
        reported.send(loss)

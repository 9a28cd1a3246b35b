"""One point of a scaling curve: ``python -m benchmarks.scaling --interactions 1000000``.

Random data. Prints seconds by stage and the process's peak memory as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import TypeVar

import torch

from benchmarks import ours
from benchmarks.common import config
from benchmarks.sizes import random_dataset
from painvrl.core.device import peak_memory_mib
from painvrl.data.splits import make_split
from painvrl.run.prepare import prepare_split

Result = TypeVar("Result")
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Point:
    """A size; the middle of every curve is the default."""

    users: int = 50_000
    items: int = 10_000
    interactions: int = 1_000_000
    features: int = 256
    environments: int = 2

    def arguments(self) -> list[str]:
        """On the command line."""
        return [text for name, value in asdict(self).items() for text in (f"--{name}", str(value))]

    def label(self) -> str:
        """For the name of a benchmark."""
        return "-".join(str(value) for value in asdict(self).values())


CURVES = {
    "interactions": [Point(interactions=count) for count in (100_000, 1_000_000, 10_000_000)],
    "items": [Point(items=count) for count in (2_500, 10_000, 40_000)],
    "features": [Point(features=count) for count in (64, 256, 1024)],
    "environments": [Point(environments=count) for count in (2, 4, 10)],
}
SETTINGS = {
    "data": {"kind": "planted"},  # stands for data that are random
    "split": {"protocol": "popularity", "gamma": 0.0, "ood_share": 0.02, "iid_share": 0.02},
}


def measure(point: Point) -> dict[str, float]:
    """Seconds by stage: the best of three where a stage is short."""
    settings = config(SETTINGS, {"environments": {"count": point.environments}})
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Result], rounds: int = 1) -> Result:
        spent = []
        for _ in range(rounds):
            start = time.perf_counter()
            result = work()
            spent.append(time.perf_counter() - start)
        seconds[name] = round(min(spent), 4)
        return result

    dataset = random_dataset(point.users, point.items, point.interactions, point.features)
    split = timed("split", lambda: make_split(dataset, settings.split, seed=0))
    data = timed("index", lambda: prepare_split(settings, dataset, split, split.train, CPU))
    features = data.features
    gramian = ours.model(features, data.training, ours.GRAMIAN)
    ours.epochs(gramian, ours.GRAMIAN_TRAINING, 1)
    timed("gramian epoch", lambda: ours.epochs(gramian, ours.GRAMIAN_TRAINING, 1), rounds=3)
    sampled = ours.model(features, data.training, ours.SAMPLED)
    timed("sampled epoch", lambda: ours.epochs(sampled, ours.SAMPLED_TRAINING, 1))
    users, items = gramian.user_vectors().detach(), gramian.item_vectors().detach()
    timed("ranking", lambda: ours.rank(data, users, items))
    for name, spent in ours.round_seconds(settings, data, gramian).items():
        seconds[name] = round(spent, 4)
    return seconds


def main() -> None:
    """Measure one point."""
    parser = argparse.ArgumentParser(description=__doc__)
    for field in fields(Point):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    point = replace(Point(), **vars(parser.parse_args()))
    # Not `ru_maxrss`, which counts what the process that started this one held.
    before = peak_memory_mib(CPU)
    seconds = measure(point)
    peaks = {"imports_mib": before, "peak_mib": peak_memory_mib(CPU)}
    print(json.dumps({**asdict(point), "seconds": seconds, **peaks}))


if __name__ == "__main__":
    main()

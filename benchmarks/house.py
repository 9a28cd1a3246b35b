"""How deep is the house? ``python -m benchmarks.house``.

Prints what stands on the call stack between ``study run`` and two calls: the one that logs a trial's metrics
with MLflow, and the first ``backward`` of its training. Then how the modules at the top level import each
other; layers are the longest chain. Of another version: ``PYTHONPATH=TREE python benchmarks/house.py``.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import mlflow
import torch
import yaml

TINY = {
    "study": {"name": "tiny", "trials": 1, "sampler": "random"},
    "presets": [],
    "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
    "config": {
        "preset": "ultragcn",
        "data": {"kind": "planted", "n_users": 60, "n_items": 80, "interactions_per_environment": 6},
        "split": {"protocol": "planted"},
        "training": {"max_epochs": 2},
    },
    "space": {"backbone.l2": {"type": "float", "low": 0.1, "high": 0.6}},
}


def frames() -> list[str]:
    """Module and function of painvrl's frames on the stack, the command first."""
    stack = [each.frame for each in reversed(inspect.stack(0))]
    names = [f"{frame.f_globals['__name__']}: {frame.f_code.co_qualname}" for frame in stack]
    return [name for name in names if name.startswith("painvrl")]


def stacks_of_a_trial() -> dict[str, list[str]]:
    """The frames at both calls of a tiny study of one trial."""
    from painvrl.cli import main as command

    found: dict[str, list[str]] = {}
    log_batch: Any = mlflow.MlflowClient.log_batch
    backward: Any = torch.Tensor.backward

    def logs(client: Any, run_id: str, metrics: Any = (), *args: Any, **kwargs: Any) -> Any:
        if any(metric.key == "iid/ndcg_at_20" for metric in metrics):
            found.setdefault("MLflow", frames())
        return log_batch(client, run_id, metrics, *args, **kwargs)

    def steps(*args: Any, **kwargs: Any) -> Any:
        found.setdefault("the training", frames())
        return backward(*args, **kwargs)

    mlflow.MlflowClient.log_batch, torch.Tensor.backward = logs, steps  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tiny.yaml")
        file.write_text(yaml.safe_dump(TINY), encoding="utf-8")
        sys.argv = ["painvrl", "study", "run", str(file), "-q", "--device", "cpu", "--workspace", folder]
        with suppress(SystemExit):
            command()
    return found


def main() -> None:
    """Print all three."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for what, stack in stacks_of_a_trial().items():
        files = {name.partition(":")[0] for name in stack}
        print(f"\nto {what}: {len(stack)} frames of {len(files)} modules", *stack, sep="\n  ")
    graph = grimp.build_graph("painvrl", cache_dir=None)
    modules = sorted(graph.find_children("painvrl"))

    @cache
    def below(one: str) -> list[str]:
        others = (each for each in modules if each != one)
        return [
            each
            for each in others
            if graph.direct_import_exists(importer=one, imported=each, as_packages=True)
        ]

    @cache
    def layer(one: str) -> int:
        return 1 + max(map(layer, below(one)), default=0)

    pairs = sum(map(len, map(below, modules)))
    print(f"\ntop level: {len(modules)} modules in {max(map(layer, modules))} layers, {pairs} pairs")
    for one in sorted(modules, key=layer, reverse=True):
        print(f"  {layer(one):2} {one}: {', '.join(below(one))}".replace("painvrl.", ""))


if __name__ == "__main__":
    main()

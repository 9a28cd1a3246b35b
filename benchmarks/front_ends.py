"""Do the front's two ends differ beyond seed noise? ``python -m benchmarks.front_ends [--seeds 3]``.

Takes the trials with the best IID and the best OOD NDCG@20 from the front of a finished study, trains both
with several seeds (split and initialisation together), and compares them on both axes. The study's own
seed is not among them: the ends were chosen on it. Reads valid parts only.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

from benchmarks.common import prepared, print_table, trained
from painvrl.core.workspace import Workspace
from painvrl.study.report import front_table
from painvrl.study.store.storage import open_study

AXES = ("iid/ndcg_at_20", "ood/ndcg_at_20")


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Mean and standard error."""
    return statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    asked = parser.parse_args()
    study = open_study(None, Workspace(asked.workspace))
    records = {record.number: record for record in study.trials()}
    front = front_table(study).rows
    values: dict[str, dict[str, list[float]]] = {}
    rows = []
    for end in AXES:
        best = max(front, key=lambda row: row.metrics[end])
        settings = study.config_of(records[best.trial])
        for seed in range(settings.seed + 1, settings.seed + 1 + asked.seeds):
            again = settings.model_copy(update={"seed": seed})
            metrics = trained(again, prepared(again)).metrics
            for axis in AXES:
                values.setdefault(end, {}).setdefault(axis, []).append(metrics[axis])
        cells = ("{:.4f} ± {:.4f}".format(*mean_and_error(values[end][axis])) for axis in AXES)
        rows.append([f"best {end}: trial {best.trial}", *cells])
    print_table(
        f"The ends of the front of {study.name}, {asked.seeds} other seeds, mean ± standard error",
        ["end", *AXES],
        rows,
    )
    iid_end, ood_end = (values[end] for end in AXES)
    for axis in AXES:
        (first, first_error), (second, second_error) = (
            mean_and_error(end[axis]) for end in (iid_end, ood_end)
        )
        error = math.hypot(first_error, second_error)
        print(f"\n{axis}: {first - second:+.4f}, {abs(first - second) / error:.1f} standard errors")


if __name__ == "__main__":
    main()

"""Do the mask's hyperparameters move a real front? ``python -m benchmarks.moved_front --study wrong-text``.

Reads trainings that ``benchmarks.invariance`` kept, under seeds of both kinds: valid parts, nothing is
trained. The front is that of IID and OOD NDCG@20 over the grid of an arm. On the first seeds, 0 to 9, two
things are chosen and frozen. One is the settings whose means no others dominate. The other is the one value
of the hyperparameters whose own front, with all else free, is worth most. On the fresh seeds, from 10 on,
both are measured. What fixing costs is the difference of the two hypervolumes. Its 95% interval comes of a
crossed bootstrap over seeds, users and items. The hyperparameters are fixed together, and each alone.

Shares of variance are main effects on the means of all seeds: information, not a test.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import print_table
from benchmarks.invariance import REFERENCE, ROOT, STUDIES, Array, Kept, drawn_means, interval, said
from benchmarks.machine import RESULTS, write_results
from painvrl.stats.dominance import hypervolume, non_dominated

Setting = tuple[tuple[str, Any], ...]
"""What a point of a grid changes, by path."""

PARTS = ("iid", "ood")
MASK = ("environments", "mask")


def leaves_of(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted paths and values.

    >>> list(leaves_of({"mask": {"sparsity": 0.25}}))
    [('mask.sparsity', 0.25)]
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves_of(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def settings_of(kept: Kept, arms: Sequence[str]) -> dict[Setting, dict[int, str]]:
    """The keys of the valid trainings of these arms, by setting and seed."""
    found: dict[Setting, dict[int, str]] = {}
    for key, row in kept.rows.items():
        if key.startswith("valid-") and row["arm"] in arms:
            setting = tuple(sorted((path, str(value)) for path, value in leaves_of(row["change"])))
            found.setdefault(setting, {})[row["seed"]] = key
    return found


def means_of(kept: Kept, keys: Sequence[Mapping[int, str]], seeds: Sequence[int], draws: int) -> Array:
    """``[1 + D, N, 2]``: IID and OOD of each setting, as it is and under crossed draws."""
    parts = []
    for part in PARTS:
        of_seeds = [[kept.gains(of[seed], part) for of in keys] for seed in seeds]
        parts.append(drawn_means(of_seeds, draws, np.random.default_rng(0)))
    return np.stack(parts, axis=2)


def value_of(setting: Setting, paths: Sequence[str]) -> Setting:
    """The part of a setting that names these hyperparameters."""
    return tuple(one for one in setting if one[0] in paths)


def varied_in(settings: Sequence[Setting]) -> list[str]:
    """The paths in which settings differ; of those that always change together, the first."""
    found: dict[tuple[int, ...], str] = {}
    for path in sorted({path for one in settings for path, _ in one}):
        values = [value_of(one, [path]) for one in settings]
        if len(set(values)) > 1:
            found.setdefault(tuple(values.index(value) for value in values), path)
    return list(found.values())


def best_fixed(settings: Sequence[Setting], means: Array, paths: Sequence[str]) -> Setting:
    """The value of the hyperparameters whose front, with all else free, is worth most."""
    values = sorted({value_of(one, paths) for one in settings})
    return max(
        values, key=lambda value: hypervolume(means[[value_of(one, paths) == value for one in settings]])
    )


def on_front(means: Array, among: Array) -> Array:
    """Places of the settings ``among`` that no other of them dominates."""
    places = np.flatnonzero(among)
    return places[np.asarray(non_dominated(means[places]), bool)]


def share_of_variance(settings: Sequence[Setting], values: Array, path: str) -> float:
    """What the means by one hyperparameter hold of the variance over a full grid."""
    groups: dict[Setting, list[float]] = {}
    for setting, value in zip(settings, values, strict=True):
        groups.setdefault(value_of(setting, [path]), []).append(float(value))
    effects = [np.mean(group) for group in groups.values() for _ in group]
    return float(np.var(effects) / np.var(values))


def main() -> None:
    """Measure, print, and write ``results/moved-front-STUDY.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", choices=list(STUDIES), default="wrong-text")
    parser.add_argument("--arms", nargs="+", default=[REFERENCE], help="whose grids make the front")
    parser.add_argument("--id-dim", type=int, default=0, help="width of the ID part")
    parser.add_argument("--draws", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--keep", type=Path, default=ROOT / "workspace" / "invariance")
    asked = parser.parse_args()
    kept = Kept(asked.keep / f"{asked.study}-{asked.id_dim}")
    by_setting = settings_of(kept, asked.arms)
    seeds = sorted(set.intersection(*({*of} for of in by_setting.values())))
    first, fresh = [one for one in seeds if one < 10], [one for one in seeds if one >= 10]
    if not first or not fresh:
        parser.error(f"trainings of both kinds of seeds are needed; all settings have those of {seeds}")
    settings, keys = list(by_setting), list(by_setting.values())
    found = means_of(kept, keys, first, 0)[0]
    measured = means_of(kept, keys, fresh, asked.draws)
    everything = np.ones(len(settings), bool)
    free = on_front(found, everything)
    worth = np.array([hypervolume(draw[free]) for draw in measured])
    varied = varied_in(settings)
    of_mask = [path for path in varied if path.startswith(MASK)]
    rows = []
    for fixed in ([of_mask] if len(of_mask) > 1 else []) + [[path] for path in varied]:
        value = best_fixed(settings, found, fixed)
        rest = on_front(found, np.array([value_of(one, fixed) == value for one in settings]))
        less = 1 - np.array([hypervolume(draw[rest]) for draw in measured]) / worth
        row: dict[str, Any] = {"fixed": ", ".join(fixed), "at": dict(value), "loses": interval(less)}
        if len(fixed) == 1:
            both = np.average([found, measured[0]], axis=0, weights=[len(first), len(fresh)])
            row |= {
                part: share_of_variance(settings, both[:, place], fixed[0])
                for place, part in enumerate(PARTS)
            }
        rows.append(row)
    points = [{"setting": dict(settings[one]), "means": measured[0, one].tolist()} for one in free]
    title = f"{asked.study}: settings of seeds {first} under seeds {fresh}, valid parts"
    print_table(
        f"{title}; the front of {len(free)} settings has {1000 * worth[0]:.3f} x 0.001",
        ["fixed", "at", "loses of the hypervolume", "variance IID", "variance OOD"],
        [
            [
                row["fixed"],
                ", ".join(map(str, row["at"].values())),
                said(row["loses"], "+.1%"),
                *(f"{row[part]:.0%}" if part in row else "" for part in PARTS),
            ]
            for row in rows
        ],
    )
    results = {"first": first, "fresh": fresh, "arms": asked.arms, "front": points, "fixed": rows}
    whole = len(first) == len(fresh) == 10 and asked.arms == [REFERENCE]
    write_results(
        f"moved-front-{asked.study}-{asked.id_dim}", results, folder=RESULTS if whole else asked.keep
    )


if __name__ == "__main__":
    main()

"""Does an invariant mask pay where it can? ``python -m benchmarks.invariance --study wrong-text``.

Every arm is trained at every point of its grid, under every seed. For each seed a point is chosen by rules
that read no OOD part: by the best ``loeo/ndcg_at_20``, by the best ``iid/ndcg_at_20``, and by the best
``iid`` of the points that keep 90% of the best ``loeo``. What the chosen points are worth is the NDCG@20 of
the valid parts. With ``--test`` it is that of the test parts, read for chosen points alone.

Of two environments ``loeo`` leaves one, and without one of them V-REx and group DRO are the plain loss. So
there ``iid`` chooses for both under every rule. What their best point by OOD is worth stands beside as an
upper bound: no rule without OOD could have chosen better.

Intervals come of a crossed bootstrap over seeds, users and items. Ten seeds of an era have ten cut years.
Differences to ``known``, the mask that is told the environments, are a table's family. Their intervals have
Bonferroni's level, so that all hold at once. Their p-values are adjusted by Holm. The study's primary
comparison, of one rule and one width of the ID part, stands alone at 95%. Trainings are kept in ``--keep`` by
settings, data and code, and the same command goes on where it stopped. Seconds are of the CPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import CACHE, config, merged, print_table
from benchmarks.machine import RESULTS, write_results
from painvrl.baselines.specification_gate import Asked
from painvrl.core.rng import generator
from painvrl.core.wholefile import write_whole
from painvrl.data.dataset import BATCH
from painvrl.data.digest import digest_of
from painvrl.data.guard import AccessLog
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared, columns_read, prepare, with_features
from painvrl.run.pretrained import PretrainedStore, numbers_of
from painvrl.study.choice.candidates import Candidates
from painvrl.study.choice.rules import MaxIidWithLoeo, Rule, rule_named
from painvrl.study.file.spec import load_spec

ROOT = Path(__file__).parent.parent
Change = dict[str, Any]
Years = list[int | None]
Array = NDArray[np.float64]
IID, LOEO = "iid/ndcg_at_20", "loeo/ndcg_at_20"
RULES: dict[str, Rule] = {
    "loeo": rule_named("loeo"),
    "iid": rule_named("iid"),
    "iid-with-loeo": MaxIidWithLoeo(share=0.9),
}
"""What ``painvrl study pick`` has; the share was fixed on seeds 0 to 9 of ``wrong-text`` and its controls."""
L2 = (0.1, 0.3)
LAMBDAS = (1.0, 30.0)
COUNTS = (2, 4, 8)
REFERENCE, BASE, ORACLE = "known", "all", "oracle"
COUNTED = "inferred-counts"
"""Several counts of inferred environments: for ``benchmarks.moved_front``, trained only where it is named."""
BY_OOD, SHUFFLED = ", best by ood", "shuffled "


class Comparison(NamedTuple):
    """Two arms whose points are chosen by ``rule``, in models whose ID part is ``id_dim`` wide."""

    reference: str
    other: str
    rule: str
    id_dim: int


PRIMARY = Comparison(REFERENCE, BASE, "loeo", 0)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A shift: the file that describes it, what is changed in it, and what is known of it.

    ``closed``: the modalities that the oracle closes, if any are known to be broken. ``shares``: sparsities
    of the masks. ``cuts``: by how much the years of the split are moved, a seed after the other, so that
    whoever draws seeds again draws cut years, too. ``primary``: the one comparison of no family.
    """

    file: str
    change: Change
    names: tuple[str, ...]
    closed: tuple[str, ...] = ()
    shares: tuple[float, ...]
    cuts: tuple[int, ...] = (0,)
    primary: Comparison = PRIMARY

    def of_seed(self, seed: int) -> Change:
        """What a seed changes."""
        moved = self.cuts[seed % len(self.cuts)]
        if not moved:
            return {"seed": seed}
        years = {
            part: [None if year is None else year + moved for year in self.change["split"][part]]
            for part in ("train", "ood")
        }
        return {"seed": seed, "split": years}


def _wrong(modality: str, share: float = 0.3, decoy: bool = True) -> Study:
    split = {"modality": modality, "train_broken": share, "ood_broken": 1.0 if share else 0.0}
    return Study(
        file="wrong-modality",
        change={"split": split},
        names=("text", "genres", "year", *(["decoy"] if decoy else [])),
        closed=(modality,),
        shares=(0.0, 0.25 if decoy else 0.34),  # no gate, or one
    )


def _era(train: Years, ood: Years, **more: Any) -> Study:
    split = {"train": train, "ood": ood}
    settings = {"names": ("text", "genres", "year"), "shares": (0.0, 0.34), **more}
    return Study(file="era", change={"split": split}, cuts=(0, 1, -1, 2, -2, 3, -3, 4, -4, 5), **settings)


TRAILERS: Change = {
    # What pictures and sounds of trailers are worth turns its sign with the era: a probe without masks on
    # these films, which looked at OOD. So the oracle is no fair choice, and what it closes is no discovery.
    "names": ("text", "genres", "visual", "audio", "year"),
    "closed": ("visual", "audio"),
    "shares": (0.0, 0.2, 0.4),  # no gate, one or two
}


STUDIES = {
    "wrong-text": _wrong("text"),
    "wrong-genres": _wrong("genres"),
    "control": _wrong("text", 0.0),  # batches that say nothing: no vector is wrong
    "control-no-decoy": _wrong("text", 0.0, decoy=False),  # nothing is there that had better be closed
    "era-older": _era([1994, None], [None, 1980]),
    "era-newer": _era([None, 1996], [2002, None]),
    "trailers-older": _era([1994, None], [None, 1980], **TRAILERS),
    "trailers-newer": _era([None, 1996], [2002, None], **TRAILERS),
}


def base_of(study: Study, id_dim: int, trailers: Path | None = None) -> Change:
    """The study's configuration as it is for every arm; ``trailers`` holds ``visual`` and ``audio``."""
    described = load_spec(ROOT / "studies" / f"{study.file}.yaml").config.model_dump(mode="json")
    if "decoy" not in study.names:
        described["features"]["decoys"] = {}
    more = {
        "evaluation": {"ks": [20], "loeo": True},
        "backbone": {"id_dim": id_dim},
    }
    if "visual" in study.names:
        if trailers is None:
            raise SystemExit("name the file of the trailers' features: --trailers FILE.npz")
        files = {
            name: {"path": str(trailers.resolve()), "key": "movieId", "values": name}
            for name in ("visual", "audio")
        }
        more["data"] = {"files": files, "items": "with_every_modality"}
    return merged(merged(described, study.change), more)


def arms_of(study: Study, count: int) -> dict[str, list[Change]]:
    """The grid of each arm: what every point changes in the configuration.

    Args:
        study: whose modalities there are, and which the oracle closes.
        count: of environments, for arms that do not know them.
    """
    plain: Change = {"mask": {"source": "ones"}}
    blind = plain if count > 2 else merged(plain, {"evaluation": {"loeo": False}})
    masks = [{"mask": {"sparsity": one}} for one in study.shares]
    lambdas = [{"mask": {"irm_weight": one}} for one in LAMBDAS]
    found: Change = {"environments": {"assignment": "soft_mixture", "count": count}}
    arms: dict[str, list[list[Change]]] = {
        BASE: [[plain]],
        REFERENCE: [masks, lambdas],
        "inferred": [[found], masks, lambdas],
        "inferred-from-batches": [[merged(found, {"environments": {"start": "column"}})], masks, lambdas],
        COUNTED: [
            [{"environments": {"assignment": "soft_mixture", "count": one}} for one in COUNTS],
            [{"evaluation": {"loeo": False}}],
            masks,
            lambdas,
        ],
        "disagreement": [[_grouped_by_disagreement(count)], masks, lambdas],
        "shuffled-labels": [[_of_shuffled_columns(study)], masks, lambdas],
        "erm": [[{"mask": {"balancer": "erm"}}], masks],
        "loeo-subset": [[merged(plain, {"features": {"scales": kept}}) for kept in subsets(study.names)]],
        "group-dro": [[blind], [_risks("group_dro", step=one) for one in (0.1, 1.0, 10.0)]],
        "vrex": [[blind], [_risks("vrex", variance_weight=one) for one in (1.0, 10.0, 100.0)]],
        "modality-dropout": [[plain], [{"backbone": {"modality_dropout": one}} for one in (0.1, 0.3, 0.5)]],
        "half": [[{"mask": {"source": "half"}}]],
        "random-gates": [[{"mask": {"source": "random", "sparsity": study.shares[-1]}}]],
    }
    if study.closed:
        arms[ORACLE] = [[merged(plain, {"features": {"scales": dict.fromkeys(study.closed, 0.0)}})]]
    free: list[Change] = [{"backbone": {"l2": one}} for one in L2]
    return {
        name: [_laid_over(point) for point in itertools.product(*axes, free)] for name, axes in arms.items()
    }


def _risks(kind: str, **hyperparameters: float) -> Change:
    return {"backbone": {"risks": {"kind": kind, **hyperparameters}}}


def _grouped_by_disagreement(count: int) -> Change:
    """Environments, also those of ``loeo``, that no label names: clusters by how little modalities agree."""
    return {"environments": {"assignment": "column", "column": [{"column": "disagreement", "bins": count}]}}


def _of_shuffled_columns(study: Study) -> Change:
    """The study's environments, also those of ``loeo``, by the columns of :func:`_with_shuffled_columns`."""
    spec = load_spec(ROOT / "studies" / f"{study.file}.yaml")
    columns = [one.model_dump(mode="json") for one in spec.config.environments.column]
    return {"environments": {"column": [{**one, "column": f"{SHUFFLED}{one['column']}"} for one in columns]}}


def _laid_over(changes: Iterable[Change]) -> Change:
    whole: Change = {}
    for change in changes:
        whole = merged(whole, change)
    return whole


def subsets(names: Sequence[str]) -> list[dict[str, float]]:
    """Every non-empty subset of the modalities, as scales of the others that are 0."""
    kept = itertools.product((1.0, 0.0), repeat=len(names))
    return [dict(zip(names, scales, strict=True)) for scales in kept if any(scales)]


def data_of(settings: TrainConfig, study: Study) -> Prepared:
    """The data under the configuration's seed, with columns that say nothing.

    Where no vector is wrong the batches say nothing: three items in ten are called changed, at random.
    """
    if study.change["split"].get("train_broken") != 0:
        prepared = prepare(settings, cache_dir=CACHE, device=torch.device("cpu"))
        return _with_shuffled_columns(prepared, settings)
    blind = settings.model_dump(mode="json", exclude={"environments"}) | {"evaluation": {"ks": [20]}}
    prepared = prepare(TrainConfig.model_validate(blind), cache_dir=CACHE, device=torch.device("cpu"))
    drawn = torch.rand(prepared.train.n_items, generator=generator(settings.seed, "benchmark", "batch")) < 0.3
    batch = np.where(drawn.numpy(), "changed", "as it is")
    return _with_shuffled_columns(_with_items(prepared, {BATCH: batch}), settings)


def _with_items(prepared: Prepared, more: Mapping[str, NDArray[Any]]) -> Prepared:
    columns = prepared.dataset.columns
    named = replace(columns, item={**columns.item, **more})
    return replace(prepared, dataset=replace(prepared.dataset, columns=named))


def _with_shuffled_columns(prepared: Prepared, settings: TrainConfig) -> Prepared:
    """The item columns of the environments once more, permuted over the train items: equally many of each."""
    warm = (prepared.train.item_degree() > 0).nonzero(as_tuple=True)[0]
    draws = generator(settings.seed, "benchmark", "shuffled")
    order = warm[torch.randperm(len(warm), generator=draws)].numpy()
    shuffled = {}
    for one in settings.environments.column:
        values = prepared.dataset.columns.item[one.column].copy()
        values[warm.numpy()] = values[order]
        shuffled[f"{SHUFFLED}{one.column}"] = values
    return _with_items(prepared, shuffled)


@dataclass(frozen=True, kw_only=True)
class Gains:
    """What each positive of a part adds to its user's NDCG@20: ``[P]`` each."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    gain: NDArray[np.float32]

    def mean(self) -> float:
        """The mean NDCG over users."""
        return float(self.gain.sum() / len(np.unique(self.user)))


def gains_of(result: RunResult, part: Part, seen: Sequence[Interactions]) -> Gains:
    """Rank a part by a trained model, without what its users took in ``seen``."""
    known = Interactions(
        user=torch.cat([one.user for one in seen]),
        item=torch.cat([one.item for one in seen]),
        n_users=seen[0].n_users,
        n_items=seen[0].n_items,
    )
    asked = part.interactions.user_degree() > 0
    users = asked.nonzero(as_tuple=True)[0]
    scores = result.user_vectors[users] @ result.item_vectors.T
    judge = Asked(part, known, users, 0)
    gain = judge.gains(scores).astype(np.float32)
    return Gains(user=judge.user, item=judge.item, gain=gain)


class Kept:
    """Trainings of a study in a folder: ``rows.json``, and a file of gains for each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "rows.json"
        (folder / "gains").mkdir(parents=True, exist_ok=True)
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else "{}"
        self.rows: dict[str, dict[str, Any]] = json.loads(text)

    def store(self, key: str, row: Mapping[str, Any], gains: Mapping[str, Gains]) -> None:
        """Keep a training: its gains first, so that no row lacks them."""
        arrays = {
            f"{part}_{name}": getattr(one, name)
            for part, one in gains.items()
            for name in ("user", "item", "gain")
        }
        np.savez_compressed(self.folder / "gains" / f"{key}.npz", **arrays)
        self.rows[key] = dict(row)
        write_whole(self.path, json.dumps(self.rows), what="the trainings")

    def gains(self, key: str, part: str) -> Gains:
        """Those of a kept training."""
        with np.load(self.folder / "gains" / f"{key}.npz") as arrays:
            return Gains(**{name: arrays[f"{part}_{name}"] for name in ("user", "item", "gain")})


class Seed:
    """A seed's data and pretrained backbones, which all arms share; read when something is to be trained."""

    def __init__(self, study: Study, base: Change, seed: int) -> None:
        self.study, self.base = study, merged(base, study.of_seed(seed))
        self.store = PretrainedStore()
        self._prepared: Prepared | None = None

    def config(self, change: Change) -> TrainConfig:
        """The configuration of a point."""
        return config(self.base, change)

    @property
    def prepared(self) -> Prepared:
        """The data."""
        if self._prepared is None:
            self._prepared = data_of(self.config({}), self.study)
        return self._prepared

    def key(self, settings: TrainConfig) -> str:
        """What decides a training: its settings, the data that it reads, and the code."""
        data = self.prepared
        read = columns_read(settings, data.dataset.columns)
        made_of = [settings.fingerprint(), data.dataset.fingerprint, data.split.fingerprint, read]
        return digest_of(made_of, numbers_of(data.device))

    def train(self, settings: TrainConfig, test: AccessLog | None) -> tuple[dict[str, Any], dict[str, Gains]]:
        """Train a point; the gains are those of the valid parts, or with ``test`` of the test parts."""
        start = time.process_time()
        data = self.prepared
        if settings.features != self.config({}).features:
            data = with_features(data, settings)
        result = run(settings, data, store=self.store)
        parts, seen = dict(data.split.valid), [data.train]
        if test is not None:
            seen += [part.interactions for part in parts.values()]
            parts = dict(data.split.sealed.open(test, "benchmarks.invariance").parts)
        gains = {name: gains_of(result, part, seen) for name, part in parts.items()}
        row = {
            "metrics": {
                name: value for name, value in result.metrics.items() if name.endswith("/ndcg_at_20")
            },
            "mask": [float(one.mean()) for one in result.mask.split(list(data.widths.values()))],
            "seconds": round(time.process_time() - start, 2),
        }
        return row, gains


def chosen(rows: Sequence[tuple[str, Mapping[str, Any]]], rule: Rule) -> str:
    """The key of the point that a rule takes of those measured; by IID where no environment was left out."""
    names = tuple(name for name in (IID, LOEO) if name in rows[0][1]["metrics"])
    values = np.array([[row["metrics"][name] for name in names] for _, row in rows])
    rule = rule if LOEO in names else RULES["iid"]
    return rows[rule.choose(Candidates(values=values, objectives=names)).place][0]


def measure(
    kept: Kept, at: Seed, seed: int, arms: Mapping[str, list[Change]], test: AccessLog | None
) -> dict[str, dict[str, str]]:
    """Train what is missing under a seed; by arm and rule, the key of what was chosen."""
    picked: dict[str, dict[str, str]] = {}
    for arm, changes in arms.items():
        points: list[tuple[str, Mapping[str, Any]]] = []
        for change in changes:
            settings = at.config(change)
            key = f"valid-{at.key(settings)}"
            if key not in kept.rows:
                row, gains = at.train(settings, None)
                kept.store(key, {"arm": arm, "seed": seed, "change": change, **row}, gains)
                print(f"seed {seed}, {arm}: {change} {row}", flush=True)
            points.append((key, kept.rows[key]))
        picked[arm] = {name: chosen(points, rule) for name, rule in RULES.items()}
        if LOEO not in points[0][1]["metrics"]:
            best, _ = max(points, key=lambda one: float(one[1]["metrics"]["ood/ndcg_at_20"]))
            picked[arm + BY_OOD] = dict.fromkeys(RULES, best)
    if test is None:
        return picked
    for by in picked.values():
        for rule, key in by.items():
            row = kept.rows[key]
            sealed = key.replace("valid-", "test-")
            if sealed not in kept.rows:
                found, gains = at.train(at.config(row["change"]), test)
                kept.store(sealed, {**row, **found}, gains)
            by[rule] = sealed
    return picked


def drawn_means(seeds: Sequence[Sequence[Gains]], draws: int, rng: np.random.Generator) -> Array:
    """``[1 + D, R]``: mean NDCG over seeds of each of ``R`` models, as it is and under crossed draws.

    Seeds are drawn with replacement; users and items get Poisson weights, the same under every seed of a
    draw. A user's value is the sum of the weighted gains of the user's positives. Equal generators draw the
    same for several parts, however many users and items are in them.
    """
    of_users, of_items, of_seeds = rng.spawn(3)
    n_users = 1 + max(int(of_seed[0].user.max()) for of_seed in seeds)
    n_items = 1 + max(int(of_seed[0].item.max()) for of_seed in seeds)
    users = np.concatenate([np.ones((1, n_users)), of_users.poisson(1.0, (n_users, draws)).T])
    items = np.concatenate([np.ones((1, n_items)), of_items.poisson(1.0, (n_items, draws)).T])
    means = []
    for of_seed in seeds:
        user, item = of_seed[0].user, of_seed[0].item
        gain = np.stack([one.gain for one in of_seed], axis=1).astype(np.float64)
        total = users[:, np.unique(user)].sum(axis=1, keepdims=True)
        found = np.empty((1 + draws, gain.shape[1]))
        for block in np.array_split(np.arange(1 + draws), max(1, draws * len(user) // 2**24)):
            found[block] = (users[np.ix_(block, user)] * items[np.ix_(block, item)]) @ gain
        means.append(found / np.maximum(total, 1e-12))
    stacked = np.stack(means)  # [S, 1 + D, R]
    taken = of_seeds.integers(len(seeds), size=(draws, len(seeds)))
    under = stacked[taken, 1 + np.arange(draws)[:, None]].mean(axis=1)
    return np.concatenate([stacked[:, :1].mean(axis=0), under])


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted by Holm: at level ``alpha`` those below it are rejected, and none after the first that is not.

    >>> [round(one, 3) for one in holm([0.033, 0.034, 0.037])]
    [0.099, 0.099, 0.099]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(np.asarray(p_values), kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def two_sided(draws: Array) -> float:
    """The share of draws on the other side of 0, doubled; never 0."""
    aside = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (aside + 1) / (len(draws) + 1))


def interval(values: Array, level: float = 0.95) -> tuple[float, float, float]:
    """The estimate ``values[0]`` and the middle ``level`` of the draws behind it."""
    low, high = np.nanquantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    return float(values[0]), float(low), float(high)


def said(values: tuple[float, float, float], style: str = "+.4f") -> str:
    """``mean [low, high]``."""
    mean, low, high = values
    return f"{mean:{style}} [{low:{style}}, {high:{style}}]"


def table(
    kept: Kept,
    primary: Comparison,
    picked: Mapping[int, Mapping[str, Mapping[str, str]]],
    rule: str,
    id_dim: int,
    draws: int,
) -> list[dict[str, Any]]:
    """A row an arm, where points are chosen by ``rule``; all comparisons but the ``primary`` are a family.

    A share of the gap between oracle and all features is told where the gap's interval excludes 0.
    """
    arms = list(next(iter(picked.values())))
    means = {}
    for part in ("iid", "ood"):
        of_seeds = [[kept.gains(by[arm][rule], part) for arm in arms] for by in picked.values()]
        means[part] = drawn_means(of_seeds, draws, np.random.default_rng(0))
    place = {arm: number for number, arm in enumerate(arms)}
    rows = []
    for arm in arms:
        row: dict[str, Any] = {"arm": arm}
        for part, values in means.items():
            row[part] = interval(values[:, place[arm]])
        if ORACLE in place and BASE in place:
            ood = means["ood"]
            gap = ood[:, place[ORACLE]] - ood[:, place[BASE]]
            _, low, high = interval(gap)
            if low > 0 or high < 0:
                row["share of the gap"] = interval((ood[:, place[arm]] - ood[:, place[BASE]]) / gap)
        keys = [by[arm][rule] for by in picked.values()]
        points = [kept.rows[key]["change"] for key in keys]
        row["chosen"] = points
        row["open"] = sum(point.get("mask", {}).get("sparsity") == 0 for point in points)
        row["seconds"] = sum(kept.rows[key]["seconds"] for key in keys) / len(keys)
        rows.append(row)
    if REFERENCE in place:
        gaps = {
            arm: means["ood"][:, place[REFERENCE]] - means["ood"][:, place[arm]]
            for arm in arms
            if arm != REFERENCE
        }
        family = [arm for arm in gaps if Comparison(REFERENCE, arm, rule, id_dim) != primary]
        p_values = {arm: two_sided(gap[1:]) for arm, gap in gaps.items()}
        p_values |= zip(family, holm([p_values[arm] for arm in family]), strict=True)
        for row in rows:
            if (arm := row["arm"]) in gaps:
                level = 1 - 0.05 / len(family) if arm in family else 0.95
                row["known ahead by"], row["p"] = interval(gaps[arm], level), p_values[arm]
    return rows


def main() -> None:
    """Measure, print, and write ``results/invariance-STUDY.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", choices=list(STUDIES), default="wrong-text")
    parser.add_argument("--seeds", type=int, nargs="+", help="0 to 9; with --test 10 to 19")
    parser.add_argument("--arms", nargs="+", help="those of the table; all by default")
    parser.add_argument("--points", type=int, help="at most so many of each grid, to try it out")
    parser.add_argument("--id-dim", type=int, default=0, help="width of the ID part")
    parser.add_argument(
        "--trailers", type=Path, help="features of the trailers, for the studies of that name"
    )
    parser.add_argument("--test", action="store_true", help="read the test parts, for chosen points")
    parser.add_argument("--draws", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--keep", type=Path, default=ROOT / "workspace" / "invariance")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    seeds = asked.seeds or list(range(10, 20) if asked.test else range(10))
    if not asked.test and max(seeds) >= 10:
        parser.error("seeds from 10 on are for --test")
    if asked.test and min(seeds) < 10:
        parser.error("--test is for seeds from 10 on: the others are for development")
    study = STUDIES[asked.study]
    arms = arms_of(study, count=2 if study.file == "wrong-modality" else 3)
    whole = asked.arms is None and asked.points is None and len(seeds) == 10
    arms = {
        name: arms[name][: asked.points] for name in asked.arms or [arm for arm in arms if arm != COUNTED]
    }
    base = base_of(study, asked.id_dim, asked.trailers)
    kept = Kept(asked.keep / f"{asked.study}-{asked.id_dim}")
    test = AccessLog(asked.keep / "access.jsonl") if asked.test else None
    picked = {seed: measure(kept, Seed(study, base, seed), seed, arms, test) for seed in seeds}
    results: dict[str, Any] = {
        "study": asked.study,
        "id_dim": asked.id_dim,
        "seeds": seeds,
        "test": asked.test,
    }
    parts = "test" if asked.test else "valid"
    for rule in RULES:
        rows = table(kept, study.primary, picked, rule, asked.id_dim, asked.draws)
        results[f"chosen by {rule}"] = rows
        columns = ["iid", "ood", "share of the gap", "known ahead by"]
        print_table(
            f"{asked.study}, seeds {seeds}, {parts} parts, NDCG@20, chosen by {rule}",
            ["arm", *columns, "p", "chose sparsity 0", "seconds"],
            [
                [
                    row["arm"],
                    *(said(row[name]) if name in row else "" for name in columns),
                    f"{row['p']:.3f}" if "p" in row else "",
                    str(row["open"]),
                    f"{row['seconds']:.1f}",
                ]
                for row in rows
            ],
        )
    name = f"invariance-{asked.study}-{asked.id_dim}-{parts}"
    write_results(name, results, folder=RESULTS if whole else asked.keep)


if __name__ == "__main__":
    main()

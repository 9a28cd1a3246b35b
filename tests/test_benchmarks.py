"""The benchmarks behind the figures of the docs run, and what they compare is comparable."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from benchmarks.literal import Batch, LiteralSettings, LiteralUltraGCN
    from painvrl.config import TrainConfig
    from painvrl.model.batches import Batch as OurBatch
    from painvrl.model.ultragcn import Backbone
    from painvrl.prepare import Prepared

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "benchmarks").glob("[!_]*.py"))
SCRIPTS = [path.stem for path in FILES if "\ndef main()" in path.read_text(encoding="utf-8")]
SEEDED = [path.stem for path in FILES if '"--seeds"' in path.read_text(encoding="utf-8")]


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_every_benchmark_named_in_the_docs_exists() -> None:
    named = {
        name
        for document in (ROOT / "docs").glob("*.md")
        for name in re.findall(r"python -m benchmarks\.(\w+)", document.read_text(encoding="utf-8"))
    }
    assert named
    assert named <= set(SCRIPTS)


def planned_by_make(target: str) -> str:
    # The tests may run under make themselves, which hands its options down.
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "-n", target], cwd=ROOT, env=plain, capture_output=True, text=True, check=True
    ).stdout


def test_make_experiments_runs_every_script_that_compares_over_seeds() -> None:
    planned = planned_by_make("experiments")
    assert {"backbone", "front_ends", "knobs", "planted"} <= set(SEEDED) <= set(SCRIPTS)
    assert [name for name in SEEDED if not re.search(rf"\b{name}\b", planned)] == []


def test_make_bench_writes_json_and_measures_the_time_to_an_ndcg_at_every_size() -> None:
    from benchmarks.sizes import SIZES

    planned = planned_by_make("bench")
    assert "--benchmark-json=benchmarks/results/" in planned
    assert re.search(rf"for size in movielens {' '.join(SIZES)}; do .*benchmarks.time_to_ndcg", planned)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_benchmark_starts(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("--seeds" in done.stdout) is (script in SEEDED)


@pytest.mark.slow
def test_the_timed_benchmarks_are_found_by_their_own_settings_and_not_by_the_tests() -> None:
    # The inner run is none of this suite's workers: pytest-benchmark would warn, in the one called gw0.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "benchmarks/pytest.ini", "benchmarks", "--collect-only", "-q"],
        cwd=ROOT,
        env=outside,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    collected = {line.split("::")[0] for line in found.stdout.splitlines() if "::" in line}
    assert collected == {path.name for path in FILES if path.name.startswith("bench_")}
    assert not list((ROOT / "benchmarks").glob("test_*.py"))


def test_paired_interval_is_students_for_five_seeds() -> None:
    from benchmarks.common import paired_interval

    # Gaps 1, 2, 3, 4, 5: mean 3, deviation sqrt(2.5), error sqrt(0.5), t(4) = 2.776.
    mean, low, high = paired_interval([2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == pytest.approx(3.0)
    assert low == pytest.approx(3.0 - 2.776 * 0.5**0.5)
    assert high == pytest.approx(3.0 + 2.776 * 0.5**0.5)


# ------------------------------------------------------------------ which knob moves what


def test_every_two_levels_of_two_knobs_meet_once_in_the_array() -> None:
    from benchmarks.sensitivity import KNOBS, L9

    assert {len(row) for row in L9} == {len(KNOBS)}
    for one, other in itertools.combinations(range(len(KNOBS)), 2):
        assert {(row[one], row[other]) for row in L9} == set(itertools.product(range(3), repeat=2))


def test_shares_of_the_variance_are_those_of_the_planted_effects() -> None:
    from benchmarks.sensitivity import L9, analysed

    levels = np.array(L9)
    effects = np.array([[-1.0, 0.0, 1.0], [2.0, -4.0, 2.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    by_seed = np.array([-0.5, 0.0, 0.25, 0.25])
    noise = np.random.default_rng(0).normal(0, 0.1, (9, 4))
    values = sum(effects[knob][levels[:, knob]] for knob in range(4))[:, None] + by_seed + noise
    shares, seeds, left = analysed(values, levels)
    total = 2 / 3 + 8 + np.var(by_seed) + 0.01
    assert shares[0].share == pytest.approx(2 / 3 / total, abs=0.01)
    assert shares[1].share == pytest.approx(8 / total, abs=0.01)
    assert seeds == pytest.approx(np.var(by_seed) / total, abs=0.01)
    assert sum(share.share for share in shares.values()) + seeds + left == pytest.approx(1)
    assert max(shares[0].p_value, shares[1].p_value) < 1e-6
    assert max(shares[2].share, shares[3].share) < 0.01


def test_a_share_is_called_noise_as_often_as_the_f_test_says() -> None:
    from benchmarks.sensitivity import L9, analysed

    draws = np.random.default_rng(1)
    found = [analysed(draws.normal(size=(9, 5)), np.array(L9))[0][2].p_value for _ in range(400)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_tables_of_100k_have_columns_that_official_and_given_read(tmp_path: Path) -> None:
    from benchmarks.parts_100k import SPLITS, table_of
    from painvrl.config import TrainConfig
    from painvrl.prepare import prepare

    rng = np.random.default_rng(0)
    rows = [
        f"{user}\t{item}\t4\t{int(881250949 + rng.integers(30 * 86400))}"
        for user in range(40)
        for item in range(30)
        if rng.random() < 0.6
    ]
    (tmp_path / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(rows) + "\n"
    )
    names = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    films = "".join(f"{item}\tFilm {item}\t1995\tDrama Comedy\n" for item in range(30))
    (tmp_path / "ml-100k.item").write_text(names + films)
    data = {**table_of(tmp_path, tmp_path / "tables"), "core": 1}
    del data["item_table"]["text"]  # which would have to be encoded
    for split in SPLITS.values():
        config = TrainConfig.model_validate({"data": data, "split": split})
        card = prepare(config, cache_dir=tmp_path / "cache", device=torch.device("cpu")).split.card
        assert [row[0] for row in card.rows()] == ["train", "iid_valid", "iid_test", "ood_valid", "ood_test"]


# ------------------------------------------------------------------ fronts of equal budgets


@pytest.mark.slow
def test_a_knob_that_a_method_is_said_not_to_read_changes_nothing(
    tiny_config: TrainConfig, tiny_prepared: Prepared
) -> None:
    from benchmarks.fronts import UNREAD
    from painvrl.pipeline import run
    from painvrl.presets import PRESETS
    from painvrl.study.file.knobs import apply
    from painvrl.study.file.spec import load_spec

    turned = {
        "environments.count": 3,
        "mask.sparsity": 0.8,
        "mask.irm_weight": 3.0,
        "fusion.variant_weight": 0.9,
    }
    space = load_spec(ROOT / "studies" / "movielens.yaml").space
    assert set(UNREAD) == set(PRESETS)
    for preset, prefixes in UNREAD.items():
        config = apply(tiny_config, PRESETS[preset])  # type: ignore[index]
        knobs = [path for path in space.root if path.startswith(prefixes)]
        plain = run(config, tiny_prepared).metrics
        for path in knobs:
            assert run(apply(config, {path: turned[path]}), tiny_prepared).metrics == plain, (preset, path)
        for path in turned.keys() - set(knobs):
            assert run(apply(config, {path: turned[path]}), tiny_prepared).metrics != plain, (preset, path)


def test_studies_of_another_file_are_not_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    from benchmarks.fronts import spec_of
    from benchmarks.kept import digest, keep_studies, studies_kept

    path = tmp_path / "fronts.json"
    assert studies_kept(path, "preset", spec_of) == {"studies": []}
    now = {"preset": "erm", "seed": 0, "spec": digest(spec_of("erm", 0))}
    old = {"preset": "erm", "seed": 1, "spec": digest(spec_of("erm", 0))}
    keep_studies(path, {"studies": [now, old, {"preset": "erm", "seed": 0}]})
    assert studies_kept(path, "preset", spec_of) == {"studies": [now]}


def test_the_measures_of_a_front() -> None:
    from benchmarks.fronts import by_iid_alone, dominated_share, front_of, ood_that_keeps

    plane = [(0.3, 0.01), (0.2, 0.1), (0.1, 0.2), (0.15, 0.05)]
    assert front_of(plane) == plane[:3]
    assert by_iid_alone(plane) == (0.3, 0.01)
    assert ood_that_keeps(plane, 0.2) == 0.1
    assert ood_that_keeps(plane, 0.31) == 0.0
    assert dominated_share(plane, [(0.25, 0.15)]) == pytest.approx(1 / 3)
    assert dominated_share(plane, [(0.2, 0.1)]) == 0


# ------------------------------------------------------------------ the literal implementation


def literal_problem(**changes: Any) -> tuple[LiteralSettings, LiteralUltraGCN, Backbone]:
    """The same tiny model in both implementations."""
    from benchmarks import ours
    from benchmarks.literal import LiteralSettings, LiteralUltraGCN
    from benchmarks.sizes import random_dataset

    settings = LiteralSettings(
        **{"id_dim": 6, "content_dim": 5, "negatives": 7, "batch_size": 64, "l2": 1e-3} | changes
    )
    data = random_dataset(40, 50, 300, 9)
    features = data.modalities["random"].values
    training = ours.training_data(data.interactions, torch.device("cpu"))
    backbone = ours.model(features, training, ours.like_literal(settings)[0])
    literal = LiteralUltraGCN(features, data.interactions, settings, torch.Generator().manual_seed(1))
    literal.start_from(ours.tables(backbone))
    return settings, literal, backbone


def as_literal(batch: OurBatch) -> Batch:
    """The same positives and negatives."""
    from benchmarks.literal import Batch

    assert batch.drawn is not None
    return Batch(
        user=batch.users[batch.user],
        item=batch.items[batch.item],
        negative=batch.items[batch.drawn.item].view(len(batch.user), -1),
    )


def test_painvrl_in_the_literal_settings_takes_the_literal_steps() -> None:
    from benchmarks import ours
    from benchmarks.literal import LiteralTrainer
    from painvrl.model.batches import epoch_of_batches
    from painvrl.model.losses import SampledLoss
    from painvrl.rng import generator
    from painvrl.training import fit

    # Steps of 64 among 300 pairs leave rows untouched; a large rate makes a wrong step visible.
    settings, literal, backbone = literal_problem(learning_rate=0.01)
    trainer = LiteralTrainer(literal)
    loss = backbone.config.loss
    assert isinstance(loss, SampledLoss)
    draws = generator(3, "fit")
    epochs = []

    def compare(epoch: int, values: Any) -> None:
        losses = []
        for batch in epoch_of_batches(backbone.data, loss, 0.0, draws, torch.device("cpu")):
            losses.append(literal.data_loss(as_literal(batch)).detach())
            trainer.step(as_literal(batch))
        # painvrl's optimiser adds the decay, so its loss has no such term.
        torch.testing.assert_close(
            torch.tensor(values["loss"]), torch.stack(losses).mean(), rtol=1e-5, atol=0
        )
        for name, table in ours.tables(backbone).items():
            torch.testing.assert_close(table, literal.tables()[name].detach(), rtol=1e-4, atol=2e-6)
        epochs.append((epoch, len(losses)))

    start = ours.tables(backbone)
    training = ours.like_literal(settings)[1]
    fit(backbone, training, generator(3, "fit"), evaluate=None, observe=compare, epochs=4)
    assert epochs == [(epoch, 5) for epoch in range(1, 5)]
    moved = [(table - start[name]).abs().mean() for name, table in ours.tables(backbone).items()]
    assert min(moved) > 0.02  # more than ten thousand times the tolerance


def test_the_literal_loss_is_that_of_the_method() -> None:
    from benchmarks.literal import Batch

    settings, literal, _ = literal_problem()
    user, item = torch.tensor([3, 7]), torch.tensor([11, 2])
    negative = torch.tensor([[1, 5, 9], [4, 4, 0]])
    users, items = literal.vectors()
    scores = users @ items.T
    b = literal.by_user[:, None] * literal.by_item[None, :]
    expected = torch.zeros(())
    for row in range(2):
        u, i = user[row], item[row]
        expected += (1 + b[u, i]) * torch.log1p(torch.exp(-scores[u, i])) / 2
        for j in negative[row]:
            expected += (1 + b[u, j]) * torch.log1p(torch.exp(scores[u, j])) / 6
    squares = users.square().sum() + literal.item_id.weight.square().sum()
    found = literal.loss(Batch(user=user, item=item, negative=negative))
    torch.testing.assert_close(found.detach(), (expected + settings.l2 * squares).detach())


def test_an_epoch_of_the_literal_takes_every_positive_once_with_negatives_of_its_own() -> None:
    from benchmarks.literal import batches
    from benchmarks.sizes import random_dataset

    settings, *_ = literal_problem()
    train = random_dataset(40, 50, 300, 9).interactions
    drawn = list(batches(train, settings, torch.Generator().manual_seed(0)))
    pairs = torch.cat([batch.user * 50 + batch.item for batch in drawn])
    assert pairs.sort().values.tolist() == (train.user * 50 + train.item).sort().values.tolist()
    assert [tuple(batch.negative.shape) for batch in drawn] == [(64, 7)] * 4 + [(44, 7)]
    assert len(drawn[0].negative.unique(dim=0)) == 64


@pytest.mark.parametrize("at_once", [1, 7, 512])
def test_the_literal_ranking_gives_painvrls_ndcg(tiny_prepared: Any, at_once: int) -> None:
    from benchmarks import ours
    from benchmarks.literal import ndcg

    generator = torch.Generator().manual_seed(0)
    train = tiny_prepared.train
    users = torch.randn(train.n_users, 8, generator=generator)
    items = torch.randn(train.n_items, 8, generator=generator)
    expected = ours.rank(tiny_prepared, users, items)
    for k in (5, 20):
        found = ndcg(ours.literal_iid_ranking(tiny_prepared), users, items, k, at_once)
        assert found == pytest.approx(expected[f"iid/ndcg_at_{k}"], abs=1e-9)


# ------------------------------------------------------------------ what the results are made of


def test_random_data_have_the_asked_size_and_no_pair_twice() -> None:
    from benchmarks.sizes import random_dataset

    data = random_dataset(30, 40, 600, 3).interactions
    assert len(data) == len((data.user * 40 + data.item).unique()) == 600
    assert (data.n_users, data.n_items) == (30, 40)


def test_the_machine_is_described_and_its_description_is_json() -> None:
    from benchmarks.machine import calibration_gflops, describe

    described = json.loads(json.dumps(describe()))
    assert {"cpu", "cores", "threads", "torch", "calibration_gflops"} <= set(described)
    assert calibration_gflops(size=64, repeats=1) > 0


def test_ratios_are_of_units_and_only_where_a_literal_member_is() -> None:
    from benchmarks import conftest

    def entry(group: str, name: str, median: float, **extra: float) -> dict[str, Any]:
        stats = {"median": median, "min": median / 2, "data": [median]}
        return {"group": group, "name": name, "stats": stats, "extra_info": extra}

    output = {
        "machine_info": {"calibration_gflops": 100.0},
        "benchmarks": [
            entry("epoch", "bench_literal", 0.1, times=30, calibration_gflops=120.0),
            entry("epoch", "bench_ours", 1.5),
            entry("trial", "bench_trial", 2.0),
        ],
    }
    conftest.pytest_benchmark_update_json(output)
    assert output["ratios"] == {"epoch": {"bench_ours": (2.0, 2.0)}}
    assert output["calibration_gflops"] == 110.0
    assert all("data" not in one["stats"] for one in output["benchmarks"])  # type: ignore[index]


def test_a_curve_stops_after_patience_and_is_read_at_its_first_reach() -> None:
    from benchmarks.curves import Point, best, reached
    from benchmarks.literal_curve import PATIENCE, stopped

    values = [0.1, 0.3, *[0.2] * (PATIENCE - 1)]
    curve = [Point(float(second), value) for second, value in enumerate(values, start=1)]
    assert not stopped(curve)
    assert stopped([*curve, Point(99.0, 0.3)])
    assert best(curve) == 0.3
    assert reached(curve, 0.15) == 2.0
    assert reached(curve, 0.31) is None


def test_the_literal_training_stops_early_with_its_best_ndcg_known(tiny_prepared: Any) -> None:
    from benchmarks import ours
    from benchmarks.literal import LiteralSettings
    from benchmarks.literal_curve import PATIENCE, run_literal, stopped

    settings = LiteralSettings(id_dim=4, content_dim=4, negatives=5, batch_size=64, learning_rate=0.05)
    curve, ranked = run_literal(tiny_prepared, ours.literal_iid_ranking(tiny_prepared), settings, 60)
    values = [point.ndcg for point in curve]
    assert stopped(curve)
    assert len(curve) == len(ranked) == values.index(max(values)) + 1 + PATIENCE
    assert max(values) > values[0]


@pytest.mark.slow
def test_a_point_of_the_scaling_curves_reports_its_memory() -> None:
    from benchmarks.scaling import Point

    point = Point(users=300, items=200, interactions=6000, features=8)
    ballast = torch.ones(2**28)  # 1 GiB that the process which starts the point holds
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", *point.arguments()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = SimpleNamespace(**json.loads(done.stdout))
    assert measured.interactions == 6000
    assert measured.peak_mib >= measured.imports_mib > 0
    assert measured.peak_mib < ballast.nbytes / 2**20  # another process's memory is not its own
    assert {"index", "gramian epoch", "sampled epoch", "ranking", "environments"} <= set(measured.seconds)


def test_an_operator_of_many_kernels_is_counted_as_many() -> None:
    from benchmarks.steps import cost_of, index, meta
    from painvrl.model.pairs import Pairs, half_sums

    n_users, n_items, n_pairs, width = 5, 7, 11, 3
    pairs = Pairs(
        user=index(n_pairs),
        item=index(n_pairs),
        user_offsets=index(n_users + 1),
        item_offsets=index(n_items + 1),
        by_item=index(n_pairs),
        user_by_item=index(n_pairs),
    )
    cost = cost_of(lambda: half_sums(meta(n_pairs), meta(n_users, width), index(n_pairs), pairs))
    assert cost.flops == 2 * (2 * n_pairs * width)  # a bag for each half
    assert cost.kernels >= 8  # two gathers, a cast, 1 - share, two products, two bags, a stack


def test_a_stored_curve_is_replaced_by_a_longer_one_alone(
    tiny_prepared: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from benchmarks import literal_curve
    from benchmarks.literal import LiteralSettings

    def write(name: str, values: dict[str, object]) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(values))
        return path

    monkeypatch.setattr(literal_curve, "RESULTS", tmp_path)
    monkeypatch.setattr(literal_curve, "write_results", write)
    settings = LiteralSettings(id_dim=4, content_dim=4, negatives=5, batch_size=64, learning_rate=0.05)

    def curve(epochs: int, *, unfinished: bool = False) -> list[float]:
        return literal_curve.in_literal_settings(
            tiny_prepared, "tiny", settings, epochs, unfinished=unfinished
        )

    long = curve(4)
    assert len(long) == 4
    assert curve(2) == long[:2]  # trained anew, as if it had been interrupted after two
    assert curve(2, unfinished=True) == long
    assert curve(5)[:4] == long
    assert len(curve(1, unfinished=True)) == 5


def test_als_and_the_gramian_loss_are_compared_where_both_have_been(
    tiny_prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import beside_als, ours
    from benchmarks.backbone import ALS_SETTINGS
    from benchmarks.curves import best, train_ours

    monkeypatch.setattr(beside_als, "ITERATIONS", (1, 2))
    monkeypatch.setattr(beside_als, "REPEATS", 1)
    small = ours.GRAMIAN.model_copy(update={"id_dim": 4, "content_dim": 4})
    whole = train_ours(tiny_prepared, small, ours.GRAMIAN_TRAINING)
    found = beside_als.beside_als(tiny_prepared, small, whole)
    curves = found["als"]
    assert isinstance(curves, dict)
    assert set(curves) == set(ALS_SETTINGS)
    assert all(len(curve) == 2 for curve in curves.values())
    assert found["ndcg"] == pytest.approx(min(best(whole), found["best_als_ndcg"]))  # type: ignore[call-overload]
    assert found["times_als"] == pytest.approx(found["gramian_seconds"] / found["als_seconds"])  # type: ignore[operator]


def test_the_stopwatch_counts_each_moment_for_the_innermost_part() -> None:
    from benchmarks.study_overhead import Stopwatch, shares

    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 21.0])
    watch = Stopwatch(clock=lambda: next(now))
    with watch.part("before"):  # 0
        with watch.part("sampler"):  # 1
            watch.timed(lambda: None, "storage")()  # 3 to 6
        # 10
        watch.rename("after")  # 15
    assert watch.seconds == {"before": 1 + 5, "sampler": 2 + 4, "storage": 3, "after": 6}
    assert watch.calls == {"before": 1, "sampler": 1, "storage": 1}

    found = shares(
        {"training": 80.0, "data": 5.0, "storage": 4.0, "sampler": 6.0, "imports of the trainer": 3.0}, 100.0
    )
    assert (found["machinery_seconds"], found["machinery_share"]) == (12.0, 0.12)
    assert found["parts"] == {"sampler": 6.0, "storage": 4.0, "rest": 2.0}


@pytest.mark.slow
def test_the_parts_of_a_study_add_up_to_its_wall_time(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    spec = {
        "study": {"name": "timed", "trials": 9},
        "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
        "config": tiny_settings,
        "space": {"mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8}},
        "presets": [],
        "pruning": False,
    }
    (tmp_path / "timed.yaml").write_text(json.dumps(spec), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "benchmarks.study_overhead", "--only", "tpe", "--trials", "3"]
    places = ["--spec", tmp_path / "timed.yaml", "--cache", tmp_path / "cache"]
    done = subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["trials"] == 3
    assert found["calls"]["training"] == found["calls"]["mlflow: finish"] == 3
    assert found["calls"]["storage"] > 3 * 4
    parts = found["parts"]
    assert {"imports", "sampler", "storage", "records", "mlflow: init", "between the trials"} <= set(parts)
    assert all(seconds >= 0 for seconds in parts.values())
    assert sum(parts.values()) == pytest.approx(found["machinery_seconds"], abs=0.05)
    others = ("training_seconds", "data_seconds", "trainer_import_seconds")
    whole = found["machinery_seconds"] + sum(found[name] for name in others)
    assert whole == pytest.approx(found["total_seconds"], abs=0.01)
    assert found["machinery_share"] == pytest.approx(
        found["machinery_seconds"] / found["total_seconds"], abs=1e-4
    )

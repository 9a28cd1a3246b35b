from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from painvrl.model.ultragcn import Backbone
from painvrl.run import stages as stages_module
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared
from painvrl.run.pretrained import NOT_READ, Pretrained, PretrainedStore, pretraining_key

READ: dict[str, list[dict[str, object]]] = {
    "data": [{"n_noise": 3}, {"n_users": 61}],
    "split": [{"protocol": "popularity"}],
    "features": [{"standardise": True}],
    "backbone": [
        {"id_dim": 5},
        {"content_dim": 5},
        {"l2": 0.1},
        {"projection_l2": 0.5},
        {"id_dropout": 0.5},
        {"modality_dropout": 0.5},
        {"precision": "bfloat16"},
        {"loss": {"kind": "gramian", "all_pairs_weight": 0.7}},
        {"loss": {"kind": "sampled"}},
        {"loss": {"kind": "softmax"}},
        {"loss": {"kind": "sampled"}, "item_item_weight": 0.5},
        {"item_item_neighbours": 5},
    ],
    "training": [
        {"max_epochs": 13},
        {"learning_rate": 0.1},
        {"evaluate_every": 4},
        {"patience": 5},
        {"monitor": "ood/ndcg_at_20"},
        {"updates": "dense"},
        {"updates": "dense", "weight_decay": 0.1},
        {"compile": True},
    ],
    "evaluation": [{"ks": [10, 20]}],
    "seed": [{}],
}
LEFT_OUT: dict[str, list[dict[str, object]]] = {
    "environments": [{"count": 3}, {"assignment": "random"}],
    "mask": [{"sparsity": 0.9}, {"steps": 7}, {"irm_weight": 3.0}],
    "fusion": [{"kind": "sum"}, {"kind": "scalar"}, {"kind": "item"}, {"variant_weight": 0.9}],
    "rounds": [{}],
}


def changes(sections: Mapping[str, list[dict[str, object]]]) -> list[tuple[str, dict[str, object]]]:
    return [(section, update) for section, updates in sections.items() for update in updates]


def changed(config: TrainConfig, section: str, update: dict[str, object]) -> TrainConfig:
    tree = config.model_dump(mode="json")
    if isinstance(tree[section], int):
        tree[section] += 1
    else:
        tree[section] = update if section == "split" else {**tree[section], **update}
    turned = TrainConfig.model_validate(tree)
    assert turned != config
    return turned


def test_every_section_of_a_configuration_was_thought_of() -> None:
    assert set(READ) | set(LEFT_OUT) == set(TrainConfig.model_fields) - {"preset"}  # which is never kept
    assert set(LEFT_OUT) == NOT_READ


@pytest.mark.parametrize(("section", "update"), changes(READ))
def test_every_setting_that_a_pretraining_reads_has_its_own_key(
    tiny_config: TrainConfig, tiny_prepared: Prepared, section: str, update: dict[str, object]
) -> None:
    turned = changed(tiny_config, section, update)
    assert pretraining_key(turned, tiny_prepared) != pretraining_key(tiny_config, tiny_prepared)


def test_no_two_changes_share_a_key(tiny_config: TrainConfig, tiny_prepared: Prepared) -> None:
    keys = [
        pretraining_key(changed(tiny_config, section, update), tiny_prepared)
        for section, update in changes(READ)
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(("section", "update"), changes(LEFT_OUT))
def test_what_comes_after_the_pretraining_shares_its_key_and_its_backbone(
    tiny_config: TrainConfig, tiny_prepared: Prepared, section: str, update: dict[str, object]
) -> None:
    turned = changed(tiny_config, section, update)
    assert pretraining_key(turned, tiny_prepared) == pretraining_key(tiny_config, tiny_prepared)
    states = [
        stages_module.pretrain(stages_module.Stages(config=config, prepared=tiny_prepared), None).state_dict()
        for config in (tiny_config, turned)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_key_holds_what_is_trained_on_and_what_decides_the_rounding(
    tiny_config: TrainConfig, tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = pretraining_key(tiny_config, tiny_prepared)
    others = [
        replace(tiny_prepared, train=tiny_prepared.split.ood_valid.interactions),
        replace(tiny_prepared, dataset=replace(tiny_prepared.dataset, fingerprint="other")),
        replace(tiny_prepared, split=replace(tiny_prepared.split, fingerprint="other")),
    ]
    keys = {pretraining_key(tiny_config, other) for other in others}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 7)
        keys.add(pretraining_key(tiny_config, tiny_prepared))
    with monkeypatch.context() as patch:
        patch.setattr("painvrl.run.pretrained._code", lambda: "another version")
        keys.add(pretraining_key(tiny_config, tiny_prepared))
    assert len(keys | {key}) == 6
    assert pretraining_key(tiny_config, tiny_prepared) == key


class Curves:
    def __init__(self) -> None:
        self.points: list[tuple[str, int, dict[str, float]]] = []
        self.stages: list[str] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.points.append((name, step, dict(values)))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the backbones that were trained."""
    names: list[str] = []
    real = stages_module.train_backbone

    def counting(stages: object, name: str, *rest: object, **named: object) -> object:
        names.append(name)
        return real(stages, name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(stages_module, "train_backbone", counting)
    return names


def assert_same(one: RunResult, other: RunResult) -> None:
    assert torch.equal(one.user_vectors, other.user_vectors)
    assert torch.equal(one.item_vectors, other.item_vectors)
    assert torch.equal(one.mask, other.mask)
    assert dict(one.metrics) == dict(other.metrics)
    assert dict(one.epochs) == dict(other.epochs)
    assert set(one.seconds) == set(other.seconds)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_run_that_takes_a_shared_backbone_is_the_run_that_trains_it(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tmp_path: Path, trained: list[str], on_disk: bool
) -> None:
    folder = tmp_path / "made" if on_disk else None
    store = PretrainedStore(folder)
    first, second, alone = Curves(), Curves(), Curves()
    run(changed(tiny_config, "mask", {"sparsity": 0.9}), tiny_prepared, observer=first, store=store)
    if on_disk:
        store = PretrainedStore(folder)
    trained.clear()
    taken = run(tiny_config, tiny_prepared, observer=second, store=store)
    assert trained == ["invariant", "variant"]
    assert_same(taken, run(tiny_config, tiny_prepared, observer=alone))
    assert second.points == alone.points
    assert second.stages == alone.stages
    assert [point for point in first.points if point[0] == "pretrain"] == [
        point for point in second.points if point[0] == "pretrain"
    ]


def test_a_refit_never_takes_a_backbone_and_leaves_none(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult, trained: list[str]
) -> None:
    store = PretrainedStore()
    fixed = dict(tiny_result.epochs)
    run(tiny_config, tiny_prepared, epochs=fixed, store=store)
    trained.clear()
    run(tiny_config, tiny_prepared, store=store)
    run(tiny_config, tiny_prepared, epochs=fixed, store=store)
    assert trained.count("pretrain") == 2


def test_what_a_run_does_to_its_backbone_does_not_reach_the_store(
    tiny_config: TrainConfig, tiny_prepared: Prepared
) -> None:
    store = PretrainedStore()

    def trained() -> Backbone:
        return stages_module.pretrain(stages_module.Stages(config=tiny_config, prepared=tiny_prepared), store)

    models = [trained()]
    expected = models[0].weight.detach().clone()
    for _ in range(2):
        with torch.no_grad():
            models[-1].weight.zero_()
        models.append(trained())
        assert torch.equal(models[-1].weight, expected)


def backbone(number: int) -> Pretrained:
    state = {"weight": torch.full((10, 10), float(number))}  # 400 bytes
    return Pretrained(state=state, best_epoch=number, curves=((3, {"loss": 0.1 + number}),))


def test_memory_holds_the_most_recently_used_within_its_bytes() -> None:
    store = PretrainedStore(memory_bytes=900)
    store.store("a", backbone(1))
    store.store("b", backbone(2))
    assert store.load("a") is not None
    store.store("c", backbone(3))
    assert [store.load(key) is not None for key in "abc"] == [True, False, True]
    huge = PretrainedStore(memory_bytes=100)
    huge.store("a", backbone(1))
    assert huge.load("a") is None


def test_the_disk_holds_the_most_recently_used_within_its_bytes(tmp_path: Path) -> None:
    def fresh(limit: int = 1 << 20) -> PretrainedStore:
        return PretrainedStore(tmp_path, disk_bytes=limit)

    fresh().store("a", backbone(1))
    size = (tmp_path / "a.pt").stat().st_size
    fresh().store("b", backbone(2))
    for place, key in enumerate("ab"):
        os.utime(tmp_path / f"{key}.pt", (place, place))
    found = fresh().load("a")  # used now: b is the oldest
    assert found is not None
    assert (found.best_epoch, found.curves) == (1, ((3, {"loss": 1.1}),))
    fresh(2 * size + size // 2).store("c", backbone(3))
    assert sorted(path.stem for path in tmp_path.glob("*.pt")) == ["a", "c"]
    fresh(100).store("d", backbone(4))
    assert not (tmp_path / "d.pt").exists()


def test_what_an_interrupted_write_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    abandoned, written = tmp_path / ".old.tmp", tmp_path / ".new.tmp"
    for path, hours in ((abandoned, 2.0), (written, 0.5)):
        path.write_bytes(b"part")
        os.utime(path, (time.time() - hours * 3600,) * 2)
    PretrainedStore(tmp_path).store("a", backbone(1))
    assert not abandoned.exists()
    assert written.exists()
    assert (tmp_path / "a.pt").exists()


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    PretrainedStore().store("a", backbone(1))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_used_costs_the_sharing_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = PretrainedStore(tmp_path / "file")
    store.store("a", backbone(1))
    assert store.load("a") is not None
    assert PretrainedStore(tmp_path / "file").load("a") is None
    with store.claim("a"):
        pass


def test_whoever_wants_a_backbone_that_is_being_trained_waits_for_it(tmp_path: Path) -> None:
    found: list[Pretrained | None] = []

    def other_process() -> None:
        waiting.set()
        with PretrainedStore(tmp_path).claim("a"):
            found.append(PretrainedStore(tmp_path).load("a"))

    waiting, store = threading.Event(), PretrainedStore(tmp_path)
    with store.claim("a"):
        assert store.load("a") is None
        other = threading.Thread(target=other_process)
        other.start()
        waiting.wait(10)
        other.join(0.5)  # long enough to have looked, were it not kept waiting
        with store.claim("b"):  # another key is no one's concern
            store.store("a", backbone(1))
    other.join(10)
    assert [entry is not None for entry in found] == [True]


def test_a_damaged_file_is_a_miss(tmp_path: Path) -> None:
    PretrainedStore(tmp_path).store("a", backbone(1))
    path = tmp_path / "a.pt"
    path.write_bytes(path.read_bytes()[:200])
    assert PretrainedStore(tmp_path).load("a") is None

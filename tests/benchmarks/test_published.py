"""Folders of the published sizes, and what a study over them is measured with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.published import PEAKS, _memory, epoch_seconds
from benchmarks.published_folders import PUBLISHED, as_published, write_folder
from painvrl.data.cache import ArrayCache
from painvrl.data.sources import MmgcnConfig
from painvrl.data.sources.mmgcn import read_mmgcn
from painvrl.data.sources.safe_npy import read_npy

ROOT = Path(__file__).parent.parent.parent
MODALITIES = {
    "tiktok": {"visual": 128, "acoustic": 128, "textual": 1024},
    "kwai": {"visual": 2048},
    "movielens-paper": {"visual": 2048, "acoustic": 128, "textual": 100},
}


@pytest.mark.parametrize("study", PUBLISHED)
def test_a_folder_has_the_size_that_it_was_drawn_for(study: str) -> None:
    size = PUBLISHED[study].scaled(0.004)
    write_folder(Path("drawn"), size)
    dataset = read_mmgcn(MmgcnConfig(path=Path("drawn")), ArrayCache(Path("cache")))
    data = dataset.interactions
    assert (data.n_users, data.n_items, len(data)) == (size.users, size.items, size.interactions)
    widths = {name: modality.values.shape[1] for name, modality in dataset.modalities.items()}
    assert widths.pop("textual", 0) <= MODALITIES[study].get("textual", 0)  # the words that occur
    assert widths.items() <= MODALITIES[study].items()
    parts, counts = np.unique(dataset.columns.interaction["part"], return_counts=True)
    tenth = size.interactions // 10
    assert dict(zip(parts.tolist(), counts.tolist(), strict=True)) == {
        "train": size.interactions - 2 * tenth,
        "valid": tenth,
        "test": tenth,
    }


def test_popular_items_and_the_own_group_are_taken_more_often() -> None:
    write_folder(Path("drawn"), PUBLISHED["tiktok"].scaled(0.02))
    pairs = np.load("drawn/train.npy")
    taken = np.sort(np.bincount(pairs[:, 1]))[::-1]
    assert taken[: len(taken) // 100].sum() > 0.1 * taken.sum()


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    size = PUBLISHED["tiktok"].scaled(0.002)
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        write_folder(Path(folder), size, seed)
    for file in (*size.matrices, *size.words, "train.npy", "val_full.npy", "test_full.npy"):
        one, two, three = (Path(folder, file).read_bytes() for folder in ("one", "two", "three"))
        assert one == two != three
    write_folder(Path("three"), size, 0)
    assert Path("three/train.npy").read_bytes() == Path("one/train.npy").read_bytes()


def test_rows_are_pickled_as_the_published_ones_are() -> None:
    content = as_published(np.array([[3, 11], [0, 10], [3, 10]]))
    assert b"cnumpy.core._multiarray_umath\n_reconstruct\n" in content
    assert b"numpy._core" not in content
    Path("rows.npy").write_bytes(content)
    assert read_npy(Path("rows.npy"), key="k").tolist() == [[0, 10], [3, 10, 11]]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system tells no peaks")
def test_memory_is_reported_of_a_process_that_lives() -> None:
    assert _memory(os.getpid()).keys() == PEAKS.keys()
    assert min(_memory(os.getpid()).values()) > 1000
    assert _memory(2**22 + 1) == {}


def test_the_seconds_of_an_epoch_are_those_of_the_plan() -> None:
    assert epoch_seconds("cost: ...\n  = 3 trainings x 120 epochs x 0.1234 s, an epoch of") == 0.1234


@pytest.mark.slow
def test_a_study_over_a_small_folder_comes_through(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "benchmarks.published", "--studies", "movielens-paper", "--no-results"),
        *("--data", tmp_path, "--scale", "0.005", "--epochs", "2", "--set", "config.evaluation.ks=[20]"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("movielens-paper: ")
    assert done.stdout.count('"status": "FINISHED"') == 2
    assert '"variant": ' in done.stdout  # the last stage that trains

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from painvrl.core.errors import ConfigError, DataError, PlaceError
from painvrl.run import checkpoint as module
from painvrl.run.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult
from painvrl.run.prepare import Prepared


@pytest.fixture
def saved(tmp_path: Path, tiny_result: RunResult, tiny_prepared: Prepared) -> Path:
    return save_checkpoint(tmp_path / "checkpoints" / "tiny", tiny_result, tiny_prepared)


def test_a_checkpoint_gives_back_what_was_saved(
    saved: Path, tiny_result: RunResult, tiny_prepared: Prepared
) -> None:
    loaded = load_checkpoint(saved)
    assert np.array_equal(loaded.user_vectors, tiny_result.user_vectors.numpy())
    assert np.array_equal(loaded.item_vectors, tiny_result.item_vectors.numpy())
    assert np.array_equal(loaded.mask, tiny_result.mask.numpy())
    assert TrainConfig.model_validate(loaded.settings) == tiny_result.config
    assert loaded.fingerprint == tiny_result.config.fingerprint()
    assert loaded.data_fingerprint == tiny_prepared.dataset.fingerprint
    assert loaded.metrics == tiny_result.metrics
    assert loaded.titles == tiny_prepared.dataset.titles
    assert loaded.user_ids == tuple(str(raw) for raw in tiny_prepared.dataset.user_ids)
    assert loaded.trained_on == "train"


def test_recommendations_are_the_best_unseen_items_best_first(
    saved: Path, tiny_result: RunResult, tiny_prepared: Prepared
) -> None:
    loaded = load_checkpoint(saved)
    rows = tiny_prepared.dataset.interactions
    for user in (0, 17, 59):
        scores = (tiny_result.item_vectors @ tiny_result.user_vectors[user]).tolist()
        seen = set(rows.item[rows.user == user].tolist())
        expected = sorted((item for item in range(80) if item not in seen), key=lambda item: -scores[item])[
            :7
        ]
        found = loaded.recommend(str(user), k=7)
        assert [int(one.item) for one in found] == expected
        assert [one.rank for one in found] == [1, 2, 3, 4, 5, 6, 7]
        assert [one.title for one in found] == [f"item {item}" for item in expected]
        assert [one.score for one in found] == pytest.approx([scores[item] for item in expected], abs=1e-6)


def test_whoever_has_seen_nearly_everything_gets_the_rest_only(saved: Path, tiny_prepared: Prepared) -> None:
    rows = tiny_prepared.dataset.interactions
    seen = int((rows.user == 3).sum())
    assert len(load_checkpoint(saved).recommend("3", k=1000)) == 80 - seen


def test_an_unknown_user_is_a_mistake_of_the_user(saved: Path) -> None:
    with pytest.raises(ConfigError, match=r"^user: .*no such user.*60.*\(found '1000'\)"):
        load_checkpoint(saved).recommend("1000")


def test_k_below_one_is_a_mistake_of_the_user(saved: Path) -> None:
    with pytest.raises(ConfigError, match=r"^k: must be at least 1 \(found 0\)$"):
        load_checkpoint(saved).recommend("0", k=0)


def test_a_fresh_process_loads_it_without_data_or_torch(saved: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from painvrl.run.checkpoint import load_checkpoint\n"
        f"best = load_checkpoint(Path({str(saved)!r})).recommend('5', k=3)\n"
        "print(','.join(one.item for one in best)); print('torch' in sys.modules, 'mlflow' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    items, loaded = out.splitlines()
    assert items == ",".join(one.item for one in load_checkpoint(saved).recommend("5", k=3))
    assert loaded == "False False"


@pytest.mark.parametrize("name", [module.WEIGHTS, module.IDS, module.CONFIG])
def test_one_changed_byte_is_noticed(saved: Path, name: str) -> None:
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}.*damaged"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", [module.WEIGHTS, module.IDS, module.CONFIG])
def test_a_missing_file_is_noticed(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(DataError, match="damaged"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged"),
        ("[]", "no manifest"),
        ('{"format": 1}', "no manifest"),
        ('{"format": 99, "created": "", "files": {}}', r"formats 1 and 2.*\(found 99\)"),
        ('{"format": 1, "created": "", "files": {}}', "does not list"),
        ('{"format": 1, "created": "", "files": []}', "does not list"),
    ],
)
def test_a_broken_manifest_is_a_mistake_of_the_user(saved: Path, content: str, message: str) -> None:
    (saved / module.MANIFEST).write_text(content)
    with pytest.raises(DataError, match=message):
        load_checkpoint(saved)


def test_a_foreign_or_missing_folder_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is no checkpoint"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_of_the_same_name_is_replaced_whole(
    saved: Path, tiny_result: RunResult, tiny_prepared: Prepared
) -> None:
    other = replace(tiny_result, mask=torch.zeros_like(tiny_result.mask), refit=True)
    save_checkpoint(saved, other, tiny_prepared)
    loaded = load_checkpoint(saved)
    assert not loaded.mask.any()
    assert loaded.trained_on == "train+valid"
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_folder_that_is_no_checkpoint_is_never_replaced(
    tmp_path: Path, tiny_result: RunResult, tiny_prepared: Prepared
) -> None:
    precious = tmp_path / "photos" / "1.jpg"
    precious.parent.mkdir()
    precious.write_text("family")
    with pytest.raises(DataError, match="is no checkpoint"):
        save_checkpoint(precious.parent, tiny_result, tiny_prepared)
    assert precious.read_text() == "family"


def test_a_failure_while_writing_leaves_the_old_checkpoint_and_no_litter(
    saved: Path, tiny_result: RunResult, tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_checkpoint(saved)

    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_dump", full)
    with pytest.raises(PlaceError, match="cannot be written: No space left on device; free some space"):
        save_checkpoint(saved, tiny_result, tiny_prepared)
    assert load_checkpoint(saved).created == before.created
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_the_latest_checkpoint_is_the_one_saved_last_whatever_its_name(
    tmp_path: Path, tiny_result: RunResult, tiny_prepared: Prepared
) -> None:
    for name in ("b", "c", "a"):
        save_checkpoint(tmp_path / name, tiny_result, tiny_prepared)
    assert latest_checkpoint(tmp_path).name == "a"
    save_checkpoint(tmp_path / "b", tiny_result, tiny_prepared)
    assert latest_checkpoint(tmp_path).name == "b"


def test_without_a_checkpoint_the_message_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="painvrl train --best"):
        latest_checkpoint(tmp_path / "checkpoints")


def test_tensors_that_share_memory_are_saved_apart(
    tmp_path: Path, tiny_result: RunResult, tiny_prepared: Prepared
) -> None:
    parts = tiny_result.parts
    both = torch.cat([parts.users, parts.items])
    shared = replace(tiny_result, parts=replace(parts, users=both[:60], items=both[60:]))
    loaded = load_checkpoint(save_checkpoint(tmp_path / "views", shared, tiny_prepared))
    assert np.array_equal(loaded.user_vectors, tiny_result.user_vectors.numpy())
    assert np.array_equal(loaded.item_vectors, tiny_result.item_vectors.numpy())


def test_the_manifest_lists_a_digest_of_every_other_file(saved: Path) -> None:
    manifest = json.loads((saved / module.MANIFEST).read_text())
    assert set(manifest["files"]) == {path.name for path in saved.iterdir()} - {module.MANIFEST}


def test_a_user_the_model_was_not_trained_on_gets_a_sentence_and_no_arbitrary_items(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    vectors = loaded.user_vectors.copy()
    vectors[4] = 0.0
    with pytest.raises(ConfigError, match=r"^user: .*trained on no interaction of this user.*'4'\)$"):
        replace(loaded, user_vectors=vectors).recommend("4")
    assert loaded.trained_users == loaded.user_ids
    others = tuple(user for user in loaded.user_ids if user != "4")
    assert replace(loaded, user_vectors=vectors).trained_users == others

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

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


def files_of(folder: Path) -> Path:
    """Where the files lie that the manifest names."""
    return folder / json.loads((folder / module.MANIFEST).read_text())["version"]


@pytest.mark.parametrize("name", [module.WEIGHTS, module.IDS, module.CONFIG])
def test_one_changed_byte_is_noticed(saved: Path, name: str) -> None:
    content = bytearray((files_of(saved) / name).read_bytes())
    content[len(content) // 2] ^= 1
    (files_of(saved) / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}.*damaged"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", [module.WEIGHTS, module.IDS, module.CONFIG])
def test_a_missing_file_is_noticed(saved: Path, name: str) -> None:
    (files_of(saved) / name).unlink()
    with pytest.raises(DataError, match="damaged"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged"),
        ("[]", "no manifest"),
        ('{"format": 1}', "no manifest"),
        ('{"format": 99, "created": "", "files": {}}', r"formats 1 and 2 and 3.*\(found 99\)"),
        ('{"format": 3, "created": "", "files": {}, "version": "../b"}', r"no name of a version.*'\.\./b'"),
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
    assert {path.name for path in saved.iterdir()} == {module.MANIFEST, files_of(saved).name}


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
    with pytest.raises(PlaceError):
        save_checkpoint(saved.parent / "other", tiny_result, tiny_prepared)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    assert {path.name for path in saved.iterdir()} == {module.MANIFEST, files_of(saved).name}


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
    assert set(manifest["files"]) == {path.name for path in files_of(saved).iterdir()}


def test_a_user_the_model_was_not_trained_on_gets_a_sentence_and_no_arbitrary_items(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    vectors = loaded.user_vectors.copy()
    vectors[4] = 0.0
    with pytest.raises(ConfigError, match=r"^user: .*trained on no interaction of this user.*'4'\)$"):
        replace(loaded, user_vectors=vectors).recommend("4")
    assert loaded.trained_users == loaded.user_ids
    others = tuple(user for user in loaded.user_ids if user != "4")
    assert replace(loaded, user_vectors=vectors).trained_users == others


class Killed(BaseException):
    """Passes as the death of a process."""


class Mortal:
    """Lets so many changes of the disk happen, and none from then on: the process is dead."""

    def __init__(self, patch: pytest.MonkeyPatch, changes: int) -> None:
        self.left = changes
        for place, name in (
            *((Path, name) for name in ("write_bytes", "write_text", "replace", "unlink", "rmdir", "mkdir")),
            *((module.shutil, name) for name in ("rmtree",)),
            *((module.tempfile, name) for name in ("mkdtemp",)),
        ):
            patch.setattr(place, name, self.counted(getattr(place, name)))

    def counted(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return change(*arguments, **named)

        return counted


@pytest.mark.parametrize("before", ["nothing", "a version", "an old format"])
def test_whenever_a_process_is_killed_the_checkpoint_is_the_old_one_or_the_new_one(
    tmp_path: Path, tiny_result: RunResult, tiny_prepared: Prepared, before: str
) -> None:
    other = replace(tiny_result, mask=torch.zeros_like(tiny_result.mask))
    new, changes, seen = False, 0, set()
    while not new or changes == 0:
        folder = tmp_path / str(changes)
        if before != "nothing":
            save_checkpoint(folder, tiny_result, tiny_prepared)
        if before == "an old format":
            as_format_2(folder)
        with pytest.MonkeyPatch.context() as patch:
            mortal = Mortal(patch, changes)
            with suppress(Killed):
                save_checkpoint(folder, other, tiny_prepared)
            new = mortal.left >= 0
        with suppress(*([DataError] if before == "nothing" else [])):
            seen.add(bool(load_checkpoint(folder).mask.any()))
        for path in (*folder.glob("*"), *folder.glob("*/*")):
            os.utime(path, (0, 0))
        save_checkpoint(folder, other, tiny_prepared)
        assert not load_checkpoint(folder).mask.any()
        assert {path.name for path in folder.iterdir()} == {module.MANIFEST, files_of(folder).name}
        changes += 1
    assert changes > 5
    assert seen == ({False} if before == "nothing" else {True, False})


def test_an_interrupt_right_after_the_replacement_leaves_the_new_one(
    saved: Path, tiny_result: RunResult, tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> None:
        if path == saved.parent:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "on_disk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved, replace(tiny_result, mask=torch.zeros_like(tiny_result.mask)), tiny_prepared)
    assert not load_checkpoint(saved).mask.any()


def test_the_files_are_on_the_disk_before_the_manifest_names_them(
    saved: Path, tiny_result: RunResult, tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace_, fsync = Path.replace, os.fsync

    def noted(path: Path, target: Path) -> Path:
        events.append(f"named {Path(target).name}")
        return replace_(path, target)

    def synced(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        fsync(descriptor)

    monkeypatch.setattr(Path, "replace", noted)
    monkeypatch.setattr(os, "fsync", synced)
    save_checkpoint(saved, tiny_result, tiny_prepared)
    files, at = files_of(saved).name, events.index(f"named {module.MANIFEST}")
    assert set(events[: at - 1]) == {module.WEIGHTS, module.IDS, module.CONFIG, files}
    assert events[at - 1].endswith(".tmp")
    assert events[at + 1 :] == [saved.name, saved.parent.name]


def test_what_another_process_may_be_writing_stays(
    saved: Path, tiny_result: RunResult, tiny_prepared: Prepared
) -> None:
    for name in ("version-young", "version-old"):
        (saved / name).mkdir()
    os.utime(saved / "version-old", (0, 0))
    (saved / "notes.txt").write_text("of the user")
    os.utime(saved / "notes.txt", (0, 0))
    save_checkpoint(saved, tiny_result, tiny_prepared)
    assert {path.name for path in saved.iterdir()} == {
        module.MANIFEST,
        files_of(saved).name,
        "version-young",
        "notes.txt",
    }


def test_a_neighbour_that_cannot_be_read_is_not_the_latest_and_is_named(
    saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, content in (("torn", "{"), ("newer", '{"format": 99, "created": "9", "files": {}}')):
        (saved.parent / name).mkdir()
        (saved.parent / name / module.MANIFEST).write_text(content)
    assert latest_checkpoint(saved.parent) == saved
    assert caplog.messages == ["checkpoints that cannot be read are left out: newer, torn"]
    shutil.rmtree(saved)
    with pytest.raises(DataError, match="none of the checkpoints can be read: newer, torn; make one"):
        latest_checkpoint(saved.parent)


def as_format_2(folder: Path) -> None:
    """Put the files beside the manifest, as earlier versions did."""
    manifest = json.loads((folder / module.MANIFEST).read_text())
    version = folder / manifest.pop("version")
    for path in version.iterdir():
        path.rename(folder / path.name)
    version.rmdir()
    (folder / module.MANIFEST).write_text(json.dumps({**manifest, "format": 2}))


def test_what_earlier_versions_wrote_reads_alike(saved: Path) -> None:
    one = load_checkpoint(saved)
    as_format_2(saved)
    other = load_checkpoint(saved)
    assert np.array_equal(one.user_vectors, other.user_vectors)
    assert (one.created, one.item_ids, one.metrics) == (other.created, other.item_ids, other.metrics)


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_read_again(
    saved: Path, tiny_result: RunResult, tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [module._manifest(saved)]
    save_checkpoint(saved, replace(tiny_result, mask=torch.zeros_like(tiny_result.mask)), tiny_prepared)
    now = module._manifest
    monkeypatch.setattr(module, "_manifest", lambda folder: first.pop() if first else now(folder))
    assert not load_checkpoint(saved).mask.any()

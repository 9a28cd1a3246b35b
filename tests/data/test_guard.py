from __future__ import annotations

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import torch

from painvrl.core.errors import PlaceError
from painvrl.data.guard import AccessLog, GuardedParts
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part


def part(name: str) -> Part:
    return Part(
        name=name,
        interactions=Interactions(user=torch.tensor([0, 1]), item=torch.tensor([1, 0]), n_users=2, n_items=2),
        candidates=torch.tensor([True, True]),
    )


@pytest.fixture
def sealed() -> GuardedParts:
    return GuardedParts(parts={"iid": part("iid_test"), "ood": part("ood_test")}, fingerprint="abc")


@pytest.fixture
def access_log(tmp_path) -> AccessLog:
    return AccessLog(tmp_path / "workspace" / "test_reads.jsonl")


def test_no_public_attribute_gives_test_rows(sealed):
    public = {name: getattr(sealed, name) for name in dir(sealed) if not name.startswith("_")}
    assert set(public) == {"fingerprint", "open"}
    assert public["fingerprint"] == "abc"
    assert not hasattr(sealed, "__dict__")
    assert repr(sealed) == "GuardedParts(fingerprint='abc')"


def test_opening_hands_out_both_parts_and_counts(sealed, access_log):
    assert access_log.reads("abc") == 0
    for expected in (1, 2, 3):
        parts = sealed.open(access_log, "trial 7")
        assert (parts.iid_test.name, parts.ood_test.name) == ("iid_test", "ood_test")
        assert parts.iid_test.interactions.user.tolist() == [0, 1]
        assert parts.reads == expected
    assert access_log.reads("abc") == 3


def test_a_line_names_time_reader_and_split(sealed, access_log):
    before = datetime.now(UTC)
    sealed.open(access_log, "train --best\nsecond line")
    lines = access_log.path.read_text().splitlines()
    assert len(lines) == 1
    entry = json.loads(lines[0])
    assert (entry["reader"], entry["split"]) == ("train --best\nsecond line", "abc")
    assert before <= datetime.fromisoformat(entry["time"]) <= datetime.now(UTC)


def test_splits_are_counted_apart(access_log):
    assert access_log.record("abc", reader="a") == 1
    assert access_log.record("xyz", reader="a") == 1
    assert access_log.record("abc", reader="b") == 2


def test_looking_at_the_count_leaves_no_line(access_log):
    access_log.record("abc", reader="a")
    content = access_log.path.read_bytes()
    assert access_log.reads("abc") == 1
    assert access_log.path.read_bytes() == content


def test_a_torn_line_is_no_read_and_spoils_none(access_log):
    access_log.record("abc", reader="a")
    with access_log.path.open("ab") as stream:
        stream.write(b'{"time": "2026-01-01", "split": "ab')
    assert access_log.record("abc", reader="b") == 2
    assert len(access_log.path.read_bytes().splitlines()) == 3
    assert access_log.reads("abc") == 2


def test_without_a_access_log_line_the_parts_stay_sealed(sealed, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PlaceError, match=r"file/reads\.jsonl.*stay sealed"):
        sealed.open(AccessLog(tmp_path / "file" / "reads.jsonl"), "reader")


def test_a_failed_sync_keeps_the_seal(sealed, access_log, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PlaceError, match=r"test_reads\.jsonl.*No space left"):
        sealed.open(access_log, "reader")


def test_readers_at_the_same_time_get_different_numbers(access_log):
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda index: access_log.record("abc", reader=str(index)), range(200)))
    assert sorted(numbers) == list(range(1, 201))
    # A writer that sees another's line before its newline closes it first: an empty line, no loss.
    lines = [line for line in access_log.path.read_text().splitlines() if line]
    assert {json.loads(line)["reader"] for line in lines} == {str(index) for index in range(200)}


def test_sealed_parts_travel_between_processes(sealed, access_log):
    copied = pickle.loads(pickle.dumps(sealed))
    assert copied.open(access_log, "reader").ood_test.interactions.item.tolist() == [1, 0]

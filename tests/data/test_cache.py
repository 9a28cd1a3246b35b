from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from painvrl.core.errors import PlaceError
from painvrl.data.cache import ArrayCache, pack_text, unpack_text

ARRAYS = {
    "values.0": np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32),
    "present": np.array([True, False, True]),
    "ids": np.arange(9),
    "empty": np.zeros((0, 3)),
}


def same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].dtype == two[name].dtype
        assert one[name].shape == two[name].shape
        assert one[name].tobytes() == two[name].tobytes()


def test_what_is_stored_comes_back_bitwise(tmp_path):
    cache = ArrayCache(tmp_path / "made" / "here")
    cache.store("k", ARRAYS)
    same(cache.load("k"), ARRAYS)


def test_a_key_that_was_never_stored_is_a_miss(tmp_path):
    assert ArrayCache(tmp_path / "absent").load("k") is None
    ArrayCache(tmp_path).store("k", ARRAYS)
    assert ArrayCache(tmp_path).load("l") is None


def _truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    middle = content.index(ARRAYS["values.0"].tobytes()) + 100
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        _truncated,
        _flipped,
        lambda _: b"",
        lambda _: b"garbage" * 40,
        lambda content: content[:-1],
        lambda content: b"PK\x03\x04" + content[:30],
    ],
    ids=["truncated", "one bit", "empty", "garbage", "one byte short", "header only"],
)
def test_a_damaged_file_is_a_miss_and_can_be_stored_again(tmp_path, damage):
    cache = ArrayCache(tmp_path)
    cache.store("k", ARRAYS)
    path = tmp_path / "k.npz"
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load("k") is None
    cache.store("k", ARRAYS)
    same(cache.load("k"), ARRAYS)


def test_pickled_content_is_never_loaded(tmp_path):
    np.savez(tmp_path / "k.npz", objects=np.array([{"a": 1}], dtype=object))
    assert ArrayCache(tmp_path).load("k") is None


def test_an_array_where_an_archive_should_be_is_a_miss(tmp_path):
    with (tmp_path / "k.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert ArrayCache(tmp_path).load("k") is None


def test_a_writer_that_dies_leaves_the_old_entry_and_no_debris(tmp_path, monkeypatch):
    cache = ArrayCache(tmp_path)
    cache.store("k", ARRAYS)

    def dies(stream, **_):
        stream.write(b"half a fi")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", dies)
    with pytest.raises(KeyboardInterrupt):
        cache.store("k", {"other": np.zeros(1)})
    monkeypatch.undo()
    same(cache.load("k"), ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["k.npz"]


def test_readers_beside_writers_see_all_of_an_entry_or_none(tmp_path):
    cache = ArrayCache(tmp_path)
    versions = [{"a": np.full(20_000, index), "b": np.full(3, index)} for index in range(4)]
    cache.store("k", versions[0])
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(cache.store, "k", versions[index % 4]) for index in range(60)]
        while not all(writer.done() for writer in writers):
            arrays = cache.load("k")
            assert arrays is not None
            assert set(arrays["a"].tolist()) == {arrays["b"][0]}
    assert [path.name for path in tmp_path.iterdir()] == ["k.npz"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PlaceError, match=r"file/cache.*cannot be written"):
        ArrayCache(tmp_path / "file" / "cache").store("k", ARRAYS)


@given(st.lists(st.text()))
def test_texts_survive_packing(texts):
    assert unpack_text(pack_text(texts)) == texts


def test_unpacking_what_is_no_text_is_a_value_error():
    with pytest.raises(ValueError, match=r"JSON|Expecting|decode"):
        unpack_text(np.array([255, 254, 0], dtype=np.uint8))


LARGE = ARRAYS["values.0"].nbytes


def test_what_lies_beside_an_entry_comes_back_bitwise_and_mapped(tmp_path):
    cache = ArrayCache(tmp_path)
    cache.store("k", ARRAYS, beside=["values.0", "empty"])
    loaded = cache.load("k")
    same(loaded, {**{name: ARRAYS[name] for name in ("present", "ids")}, **ARRAYS})
    assert isinstance(loaded["values.0"].base, np.memmap)
    assert {path.name for path in tmp_path.iterdir()} == {"k.npz", "k.values.0.npy", "k.empty.npy"}


def test_who_writes_to_what_is_mapped_changes_no_file(tmp_path):
    cache = ArrayCache(tmp_path)
    cache.store("k", ARRAYS, beside=["values.0"])
    cache.load("k")["values.0"][:] = 7
    same(cache.load("k"), ARRAYS)


def _gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(_flipped(path.read_bytes())),
        lambda path: path.write_bytes(_truncated(path.read_bytes())),
        lambda path: path.write_bytes(b""),
        _gone,
    ],
    ids=["one bit", "truncated", "empty", "gone"],
)
def test_damage_beside_an_entry_is_a_miss_and_can_be_stored_again(tmp_path, damage):
    cache = ArrayCache(tmp_path)
    cache.store("k", ARRAYS, beside=["values.0"])
    damage(tmp_path / "k.values.0.npy")
    assert cache.load("k") is None
    cache.store("k", ARRAYS, beside=["values.0"])
    same(cache.load("k"), ARRAYS)


def test_damage_is_said_in_one_line_and_an_entry_that_is_not_there_is_none(tmp_path, caplog):
    cache = ArrayCache(tmp_path)
    assert cache.load("k") is None
    assert caplog.messages == []
    cache.path("k").write_bytes(b"garbage")
    assert cache.load("k") is None
    (said,) = caplog.messages
    assert said.startswith(f"note: damaged, so it counts as none: {cache.path('k')} (")
    assert "\n" not in said


def test_a_folder_in_an_entry_s_place_is_put_aside(tmp_path):
    cache = ArrayCache(tmp_path)
    (cache.path("k") / "work").mkdir(parents=True)
    assert cache.load("k") is None
    cache.store("k", ARRAYS)
    same(cache.load("k"), ARRAYS)
    (aside,) = tmp_path.glob("k.npz.damaged-*")
    assert [path.name for path in aside.iterdir()] == ["work"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_entry_that_may_not_be_read_is_made_again(tmp_path):
    cache = ArrayCache(tmp_path)
    cache.store("k", ARRAYS)
    cache.path("k").chmod(0)
    assert cache.load("k") is None
    cache.store("k", ARRAYS)
    same(cache.load("k"), ARRAYS)


def test_a_header_that_asks_for_less_does_not_pass_the_checksum_by(tmp_path):
    cache = ArrayCache(tmp_path)
    cache.store("k", ARRAYS)
    content = cache.path("k").read_bytes()
    assert content.count(b"(50, 7)") == 1
    cache.path("k").write_bytes(content.replace(b"(50, 7)", b"(10, 7)"))
    assert cache.load("k") is None


def test_whichever_bit_of_an_entry_flips_it_is_whole_or_none(tmp_path):
    cache = ArrayCache(tmp_path)
    cache.store("k", ARRAYS)
    content = cache.path("k").read_bytes()
    draw = np.random.default_rng(0)
    for bit in draw.choice(8 * len(content), 400, replace=False).tolist():
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        cache.path("k").write_bytes(flipped)
        if (found := cache.load("k")) is not None:
            same(found, ARRAYS)


def test_a_name_in_an_entry_leads_to_no_other_folder(tmp_path):
    (tmp_path / "outside").mkdir()
    cache, other = ArrayCache(tmp_path / "cache"), ArrayCache(tmp_path / "outside")
    other.store("k", ARRAYS, beside=["values.0"])
    path = tmp_path / "outside" / "k.values.0.npy"
    checksum = zlib.crc32(path.read_bytes())
    path.rename(tmp_path / "outside" / "x.npy")
    cache.store("k", {"beside": pack_text({"/../../outside/x": checksum})})
    (tmp_path / "cache" / "k.").mkdir()
    assert cache.load("k") is None


def test_a_full_memory_is_no_damage(tmp_path, monkeypatch, caplog):
    cache = ArrayCache(tmp_path)
    cache.store("k", ARRAYS)

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "load", full)
    with pytest.raises(MemoryError):
        cache.load("k")
    assert caplog.messages == []

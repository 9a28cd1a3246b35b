from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from painvrl.core.tensorfile import read_tree, sweep_trees, write_tree


@dataclass(frozen=True, kw_only=True)
class Pair:
    one: torch.Tensor
    other: tuple[int, ...]


torch.serialization.add_safe_globals([Pair])


class Unknown:
    pass


def written(path: Path, tree: object) -> Path:
    assert write_tree(path, tree, most_bytes=1 << 30)
    return path


def test_a_tree_comes_back_bit_for_bit(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    tensors = {
        "float": torch.randn(3, 4, generator=draw),
        "turned": torch.randn(3, 4, generator=draw).T,
        "long": torch.tensor([1, -(2**40)]),
        "bytes": draw.get_state(),
        "none": torch.empty(3, 0),
        "scalar": torch.tensor(7.0),
        "flags": torch.tensor([True, False]),
        "learned": torch.nn.Parameter(torch.randn(2, generator=draw)),
    }
    whole = torch.arange(6.0)
    rest = {
        "view": whole[1:4],
        "numbers": [1, 0.1, 1e-300, -float("inf"), True, None, "text", (1, 2)],
        "pair": Pair(one=torch.ones(2), other=(1, 2)),
    }
    back = read_tree(written(tmp_path / "new" / "a.pt", {**tensors, **rest}))
    assert list(back) == [*tensors, *rest]
    for name, value in tensors.items():
        assert back[name].dtype == value.dtype, name
        assert back[name].stride() == value.stride(), name
        assert torch.equal(back[name], value), name
        # Products round by where their factors lie.
        assert back[name].data_ptr() % 64 == 0, "where torch puts its own tensors"
    assert torch.equal(back["view"], whole[1:4])
    assert back["numbers"] == rest["numbers"]
    assert isinstance(back["pair"], Pair)
    assert (back["pair"].one.tolist(), back["pair"].other) == ([1.0, 1.0], (1, 2))


def test_a_file_with_any_bit_turned_is_none_or_the_same(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", {"x": torch.arange(4.0), "y": [1, "text"]})
    whole = path.read_bytes()
    misses = 0
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        found = read_tree(path)
        misses += found is None
        assert found is None or (found["x"].tolist(), found["y"]) == ([0.0, 1.0, 2.0, 3.0], [1, "text"])
    assert misses > 100


@pytest.mark.parametrize("damage", ["torn", "empty", "text", "other archive", "missing", "folder"])
def test_what_is_no_whole_tree_is_none(tmp_path: Path, damage: str) -> None:
    path = written(tmp_path / "a.pt", {"x": torch.ones(100)})
    if damage == "other archive":
        with path.open("wb") as stream:
            np.savez(stream, weights=np.ones(3))
    elif damage in {"missing", "folder"}:
        path.unlink()
        if damage == "folder":
            path.mkdir()
    else:
        path.write_bytes({"torn": path.read_bytes()[:-200], "empty": b"", "text": b"a text"}[damage])
    assert read_tree(path) is None


def test_nothing_that_a_file_names_is_executed(tmp_path: Path) -> None:
    assert read_tree(written(tmp_path / "a.pt", Unknown())) is None


def test_a_tree_that_is_too_large_or_has_no_place_leaves_nothing_behind(tmp_path: Path) -> None:
    assert not write_tree(tmp_path / "a.pt", torch.ones(1000), most_bytes=3999)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("not a folder")
    assert not write_tree(tmp_path / "file" / "a.pt", {}, most_bytes=1 << 20)
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("unexpected pos 704 vs 598")])
def test_a_full_disk_costs_the_file_and_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = written(tmp_path / "a.pt", {"epoch": 1})

    def full(tree: object, place: Path) -> None:
        place.write_bytes(b"part")
        raise error

    monkeypatch.setattr(torch, "save", full)
    assert not write_tree(path, {"epoch": 2}, most_bytes=1 << 20)
    assert read_tree(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def aged(folder: Path, ages: dict[str, float], content: bytes = b"12345678") -> None:
    for name, age in ages.items():
        (folder / name).write_bytes(b"" if name.endswith(".lock") else content)
        os.utime(folder / name, (time.time() - age,) * 2)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_sweep_takes_the_oldest_until_the_rest_has_room(tmp_path: Path) -> None:
    aged(tmp_path, {"new.pt": 1, "middle.npz": 50, "old.pt": 90, ".old.lock": 91})
    sweep_trees(tmp_path, 24)
    assert len(left(tmp_path)) == 4
    sweep_trees(tmp_path, 23)
    assert left(tmp_path) == [".old.lock", "middle.npz", "new.pt"]
    sweep_trees(tmp_path, 15)
    assert left(tmp_path) == [".old.lock", "new.pt"]


def test_a_sweep_takes_what_is_too_old_and_what_a_write_left_behind(tmp_path: Path) -> None:
    aged(tmp_path, {"new.pt": 50, "old.pt": 150, "old.npz": 150, ".old.lock": 150, ".new.lock": 50})
    aged(tmp_path, {".1.torn.pt.tmp": 2 * 3600, ".2.written.pt.tmp": 1800})
    sweep_trees(tmp_path, 1000)
    assert set(left(tmp_path)) >= {"old.pt", ".old.lock", ".2.written.pt.tmp"}
    assert ".1.torn.pt.tmp" not in left(tmp_path)
    (tmp_path / ".2.written.pt.tmp").unlink()
    sweep_trees(tmp_path, 1000, oldest=100)
    assert left(tmp_path) == [".new.lock", "new.pt"]
    sweep_trees(tmp_path / "missing", 1000)


def test_damage_is_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_tree(tmp_path / "none.pt") is None
    assert caplog.messages == []
    path = tmp_path / "a.pt"
    path.write_bytes(b"garbage")
    assert read_tree(path) is None
    (said,) = caplog.messages
    assert said.startswith(f"note: damaged, so it counts as none: {path} (")


def test_whichever_bit_of_a_file_flips_it_is_whole_or_none(tmp_path: Path) -> None:
    tree = {"a": torch.arange(40.0), "pair": Pair(one=torch.ones(2), other=(1, 2))}
    path = written(tmp_path / "a.pt", tree)
    content = path.read_bytes()
    draw = np.random.default_rng(0)
    for bit in draw.choice(8 * len(content), 150, replace=False).tolist():
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        if (found := read_tree(path)) is not None:
            assert torch.equal(found["a"], tree["a"])
            assert found["pair"].other == (1, 2)


@pytest.mark.slow
def test_a_flip_in_the_directory_of_the_archive_moves_no_tensor(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", {"a": torch.arange(40.0)})
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")  # the archive's checksums do not cover it
    for place in range(directory, len(content)):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            found = read_tree(path)
            assert found is None or torch.equal(found["a"], torch.arange(40.0)), (place - directory, bit)


def test_a_file_of_an_earlier_version_is_read_and_its_damage_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.arange(40.0)}, path)
    assert torch.equal(read_tree(path)["a"], torch.arange(40.0))
    content = path.read_bytes()
    place = content.index(torch.arange(40.0).numpy().tobytes())
    path.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
    assert read_tree(path) is None


def test_a_full_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.pt", torch.ones(3))

    def full(*_: object, **__: object) -> None:
        torch.empty(2**50)

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        read_tree(path)

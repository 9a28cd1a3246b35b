"""Files that claim, or expand to, more than there is memory for."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.lib import format as npy
from pyarrow import parquet

from painvrl.core.errors import DataError
from painvrl.data.sources import TableConfig
from painvrl.data.sources import _key as key_of
from painvrl.data.sources.safe_npy import map_npy, read_npy
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import apply

MIB = 1 << 20
EXPANDED = 800 * MIB


def header(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(2**40,), (2**62, 4), (10**6, 10**6), (2**63, 2**63)])
@pytest.mark.parametrize("read", [read_npy, map_npy])
def test_a_header_that_claims_a_huge_array_is_refused(
    tmp_path: Path, shape: tuple[int, ...], read: Callable[..., np.ndarray]
) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(header(shape) + b"\0" * 16)
    with pytest.raises(DataError):
        read(path, key="data.path")


def objects(content: object) -> np.ndarray:
    array = np.empty(2, dtype=object)
    array[:] = [content, content]
    return array


def test_lists_that_name_each_other_again_and_again_are_refused(tmp_path: Path) -> None:
    nested: list[object] = [0]
    for _ in range(30):
        nested = [nested] * 10
    path = tmp_path / "a.npy"
    np.save(path, objects(nested), allow_pickle=True)
    assert path.stat().st_size < 2000
    with pytest.raises(DataError, match="its lists name more than"):
        read_npy(path, key="data.path")


def test_a_list_that_holds_itself_is_refused(tmp_path: Path) -> None:
    nested: list[object] = []
    nested.append(nested)
    path = tmp_path / "a.npy"
    path.write_bytes(pickle.dumps(objects(nested)))
    with pytest.raises(DataError, match="it holds a list that holds itself"):
        read_npy(path, key="data.path")


def test_a_list_that_stands_twice_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, objects([[1, 2], [3]]), allow_pickle=True)
    assert read_npy(path, key="data.path").tolist() == [[[1, 2], [3]]] * 2


def gzip_bomb(folder: Path) -> Path:
    part = gzip.compress(b"0" * (8 * MIB), compresslevel=1)
    path = folder / "a.csv.gz"
    path.write_bytes(gzip.compress(b"user,item\n") + part * (EXPANDED // (8 * MIB)))
    return path


def zip_bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("values.npy", "w", force_zip64=True) as stream:
            stream.write(header((EXPANDED // 8, 1)))
            for _ in range(EXPANDED // (8 * MIB)):
                stream.write(b"\0" * (8 * MIB))
        with archive.open("ids.npy", "w") as stream:
            np.save(stream, np.arange(3))
    return folder / "a.npz"


def parquet_bomb(folder: Path) -> Path:
    text = pa.array(["x" * MIB])
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(EXPANDED // MIB, np.int32)), text)
    parquet.write_table(pa.table({"user": column, "item": column}), folder / "a.parquet")
    return folder / "a.parquet"


def written(folder: Path, made: Path) -> TableConfig:
    (folder / "good.csv").write_text("user,item\na,b\n")
    files = {"x": {"path": made, "key": "ids", "values": "values"}}
    if made.suffix == ".npz":
        return TableConfig.model_validate({"path": folder / "good.csv", "files": files, "core": 1})
    table = {"path": folder / "good.csv", "key": "item", "categories": "item"}
    return TableConfig.model_validate({"path": made, "item_table": table, "core": 1})


LOAD = """
import json, sys
from pathlib import Path
from painvrl.core.errors import UserError
from painvrl.data.sources import TableConfig, load
config = TableConfig.model_validate(json.loads(sys.argv[1]) | {"memory_limit": 0.7})
try:
    load(config, cache_dir=Path(sys.argv[2]), seed=0)
except UserError as error:
    print(error)
# Of this process alone: what the system counts of a child includes the peak of the one that forked it.
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses")
@pytest.mark.parametrize("bomb", [gzip_bomb, zip_bomb, parquet_bomb])
def test_what_expands_is_refused_before_memory_passes_the_limit(
    tmp_path: Path, bomb: Callable[[Path], Path]
) -> None:
    made = bomb(tmp_path)
    assert made.stat().st_size < EXPANDED / 100
    config = json.dumps(written(tmp_path, made).model_dump(mode="json"))
    command = [sys.executable, "-c", LOAD, config, str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    said, peak = done.stdout.splitlines()
    assert said.endswith(": reading takes more memory than data.memory_limit allows, 0.7 GiB")
    assert int(peak) < 0.7 * MIB


def test_the_limit_decides_nothing_that_is_computed(tiny_config: TrainConfig) -> None:
    data = tiny_config.data.model_copy(update={"memory_limit": 3.0})
    limited = tiny_config.model_copy(update={"data": data})
    assert limited.fingerprint() == tiny_config.fingerprint()
    assert limited.deciding() == tiny_config.deciding() == tiny_config.model_dump(mode="json")
    assert key_of(limited.data) == key_of(tiny_config.data)
    assert TrainConfig.model_validate(limited.model_dump(mode="json")) == limited
    assert apply(limited, {"mask.sparsity": 0.5}).data.memory_limit == 3.0

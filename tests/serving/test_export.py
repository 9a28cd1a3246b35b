"""Exported files hold all that a search of one's own needs to answer as the model does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

import painvrl
from painvrl.core.errors import ConfigError
from painvrl.model.fusion import FusionConfig
from painvrl.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from painvrl.run.pipeline import RunResult
from painvrl.run.prepare import Prepared
from painvrl.serving.export import export

Exported = dict[str, Any]
"""Vectors, ids, titles, seen rows of each user, and what the file says of itself."""


@pytest.fixture
def model(tmp_path: Path, tiny_result: RunResult, tiny_prepared: Prepared) -> Checkpoint:
    """A model with an offset, and a user whom it was not trained on."""
    users = tiny_result.parts.users.clone()
    users[4] = 0
    fusion = FusionConfig(popularity_weight=-0.2, variant_weight=0.5)
    config = tiny_result.config.model_copy(update={"fusion": fusion})
    result = replace(tiny_result, config=config, parts=replace(tiny_result.parts, users=users))
    origin = {"study": "tiny", "trial": "2.1"}
    return load_checkpoint(save_checkpoint(tmp_path / "model", result, tiny_prepared, origin=origin))


def from_npz(file: Path) -> Exported:
    with np.load(file) as arrays:
        found = dict(arrays)
    return {
        "users": found["user_ids"].tolist(),
        "items": found["item_ids"].tolist(),
        "titles": found["titles"].tolist(),
        "vectors": (found["user_vectors"], found["item_vectors"]),
        "seen": np.split(found["seen_items"], found["seen_offsets"][1:-1]),
        "about": json.loads(str(found["about"])),
    }


def from_safetensors(file: Path) -> Exported:
    with safe_open(file, "np") as tensors:
        ids = json.loads(tensors.get_tensor("ids").tobytes())
        offsets, seen = tensors.get_tensor("seen_offsets"), tensors.get_tensor("seen_items")
        return {
            **ids,
            "vectors": tuple(tensors.get_tensor(f"{name}_vectors") for name in ("user", "item")),
            "seen": np.split(seen, offsets[1:-1]),
            "about": json.loads(tensors.metadata()["about"]),
        }


def from_parquet(file: Path) -> Exported:
    users, items = (pq.read_table(file.with_suffix(f".{name}.parquet")) for name in ("users", "items"))
    place = {raw: row for row, raw in enumerate(items["id"].to_pylist())}
    about = {table.schema.metadata[b"painvrl"] for table in (users, items)}
    assert len(about) == 1
    return {
        "users": users["id"].to_pylist(),
        "items": list(place),
        "titles": items["title"].to_pylist(),
        "vectors": tuple(np.array(table["vector"].to_pylist(), dtype=np.float32) for table in (users, items)),
        "seen": [[place[raw] for raw in seen] for seen in users["seen"].to_pylist()],
        "about": json.loads(about.pop()),
    }


READERS = {".npz": from_npz, ".safetensors": from_safetensors, ".parquet": from_parquet}


@pytest.mark.parametrize("suffix", READERS)
def test_what_is_exported_answers_as_the_model_does(model: Checkpoint, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / "new" / f"my.vectors{suffix}"
    written = export(model, file)
    assert (written.users, written.items, written.width, written.untrained) == (60, 80, 13, 1)
    assert sorted(written.files) == sorted(file.parent.iterdir())
    found = READERS[suffix](file)
    users, items = found["vectors"]
    scores = users @ items.T
    for row, user in enumerate(found["users"]):
        if user == "4":
            assert not users[row].any()
            continue
        scores[row][found["seen"][row]] = -np.inf
        best = np.argsort(-scores[row], kind="stable")[:10]
        expected = model.recommend(user, 10)
        assert [found["items"][item] for item in best] == [one.item for one in expected]
        assert [found["titles"][item] for item in best] == [one.title for one in expected]
        np.testing.assert_allclose(scores[row][best], [one.score for one in expected], rtol=1e-5)


@pytest.mark.parametrize("suffix", READERS)
def test_a_file_says_what_the_score_is_and_where_it_comes_from(
    model: Checkpoint, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"v{suffix}"
    assert export(model, file).files == painvrl.load_model(model.path).export(file)
    about = READERS[suffix](file)["about"]
    assert "user_vectors[u] . item_vectors[i]" in about["score"]
    assert about["columns"] == {"offset": 1, "id": 4, "invariant": 4, "variant": 4}
    expected = {"study": "tiny", "trial": "2.1", "painvrl": painvrl.__version__, "trained_on": "train"}
    assert {name: about[name] for name in expected} == expected
    assert about["fingerprint"] == model.fingerprint
    assert about["data_fingerprint"] == model.data_fingerprint


def test_another_suffix_is_a_mistake_and_leaves_nothing(model: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^output: must end in \.parquet or \.npz or \.safetensors"):
        export(model, tmp_path / "new" / "vectors.csv")
    assert not (tmp_path / "new").exists()


def recipes(repository: Path) -> list[str]:
    """The Python of the page on serving: exact search with NumPy, and with FAISS."""
    page = (repository / "docs" / "serving.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("package", ["numpy", "faiss"])
def test_the_recipes_of_the_documents_find_what_the_model_recommends(
    model: Checkpoint, repository: Path, tmp_path: Path, package: str
) -> None:
    pytest.importorskip(package)
    (recipe,) = [text for text in recipes(repository) if text.startswith(f"import {package}")]
    export(model, tmp_path / "vectors.npz")  # the current directory is tmp_path
    names: dict[str, Any] = {}
    exec(recipe, names)
    best: Callable[..., list[tuple[str, float]]] = names["best"]
    for user in model.trained_users:
        expected = model.recommend(user, 10)
        assert [item for item, _ in best(user)] == [one.item for one in expected]
        np.testing.assert_allclose(
            [score for _, score in best(user)], [one.score for one in expected], rtol=1e-5
        )

"""The notebook of the documents runs from its first cell to its last."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def notebook(repository: Path) -> dict[str, Any]:
    path = repository / "docs" / "notebooks" / "front.ipynb"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_its_format_is_nbformat_4_and_no_output_is_kept(notebook: dict[str, Any]) -> None:
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    common = {"cell_type", "id", "metadata", "source"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert set(cell) == common | {"execution_count", "outputs"}
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
        else:
            assert set(cell) == common
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@pytest.mark.slow
def test_its_cells_run_in_their_order(notebook: dict[str, Any], empty_mlflow: Path, tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    shutil.copy(empty_mlflow, tmp_path / "workspace")
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert len(names["study"].front()) > 1
    assert names["pick"].name in names["study"].front().index
    assert names["report"].repetition.exact
    frame = names["recommended"]
    assert len(frame) == 6
    parts = frame.columns[list(frame.columns).index("score") + 1 :]
    assert frame[parts].sum(axis=1).to_numpy() == pytest.approx(frame["score"].to_numpy(), abs=1e-5)

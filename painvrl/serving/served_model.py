"""What a registered model runs: MLflow stores this file beside the checkpoint and executes it.

So it stands alone: NumPy, pandas, safetensors and MLflow, and nothing of painvrl. It ranks as
:meth:`painvrl.run.checkpoint.Checkpoint.recommend` does. Where that refuses a user, an answer to a
batch must go on: such a user gets the items that most users have, and a status that says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from safetensors.numpy import load_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = ["user", "rank", "item", "title", "score", "status"]
OK, UNKNOWN, UNTRAINED = "ok", "unknown user", "user without training data"


class ServedModel(PythonModel):  # type: ignore[misc] # MLflow's classes have no types
    """Best items for users, from the vectors of a checkpoint."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the checkpoint among the model's artifacts; MLflow calls this once."""
        folder = Path(context.artifacts["checkpoint"])
        ids = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "weights.safetensors")
        self._user_vectors, self._item_vectors = arrays["user_vectors"], arrays["item_vectors"]
        self._seen = np.split(arrays["seen_items"], arrays["seen_offsets"][1:-1])
        self._popularity = np.bincount(arrays["seen_items"], minlength=len(ids["items"]))
        self._items, self._titles = ids["items"], ids["titles"]
        self._user_index = {raw: index for index, raw in enumerate(ids["users"])}
        self._item_index = {raw: index for index, raw in enumerate(ids["items"])}

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The best items of every user, in the order of the rows.

        Args:
            context: MLflow's; not used.
            model_input: a data frame with a column ``user`` of raw ids, as text or integers. A column
                ``candidates``, if there, holds lists of the items to rank for a row; a row without a
                list ranks all. Candidates that the model does not know are left out.
            params: ``k``, items a user (10 by default); ``exclude_seen``, whether items that the user
                has taken are left out (true by default).

        Returns:
            Columns ``user``, ``rank`` (from 1), ``item``, ``title``, ``score``, ``status``. Under a
            status other than ``ok`` the score is the number of users who have the item. Users with
            fewer items left than ``k`` get fewer rows.

        Raises:
            MlflowException: ``k`` is below 1; over HTTP a status of 400.
        """
        wanted = {"k": 10, "exclude_seen": True, **(params or {})}
        if wanted["k"] < 1:
            raise MlflowException.invalid_parameter_value(f"k must be at least 1 (found {wanted['k']})")
        lists = model_input.get("candidates", [None] * len(model_input))
        rows = [
            row
            for user, candidates in zip(model_input["user"], lists, strict=True)
            for row in self._rows(_text(user), candidates, wanted)
        ]
        return pd.DataFrame(rows, columns=COLUMNS)

    def _rows(self, user: str, candidates: object, params: Mapping[str, Any]) -> list[tuple[object, ...]]:
        index = self._user_index.get(user)
        scores, status = self._scores(index)
        if index is not None and params["exclude_seen"]:
            scores[self._seen[index]] = -np.inf
        if isinstance(candidates, list | tuple | np.ndarray):
            places = [self._item_index.get(_text(item)) for item in candidates]
            others = np.ones(len(scores), dtype=bool)
            others[[place for place in places if place is not None]] = False
            scores[others] = -np.inf
        best = np.argsort(-scores, kind="stable")[: params["k"]]
        return [
            (user, rank, self._items[item], self._titles[item], float(scores[item]), status)
            for rank, item in enumerate(best, start=1)
            if np.isfinite(scores[item])
        ]

    def _scores(self, index: int | None) -> tuple[NDArray[np.floating[Any]], str]:
        """``[I]`` scores of a user, a new array, and the status that goes with them."""
        if index is None:
            return self._popularity.astype(np.float64), UNKNOWN
        vector = self._user_vectors[index]
        if not vector.any():  # as training leaves users without an interaction
            return self._popularity.astype(np.float64), UNTRAINED
        return self._item_vectors @ vector, OK


def _text(raw: object) -> str:
    """A raw id as checkpoints hold it. Where a column of integers has gaps, pandas makes floats of them."""
    if isinstance(raw, float | np.floating):
        return str(int(raw)) if raw.is_integer() else "" if np.isnan(raw) else str(raw)
    return "" if raw is None else str(raw)


set_model(ServedModel())

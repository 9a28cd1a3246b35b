"""What a registered model runs: MLflow stores this file beside the checkpoint and executes it.

So it stands alone: NumPy, pandas, safetensors and MLflow, and nothing of painvrl. It ranks as
:meth:`painvrl.run.checkpoint.Checkpoint.recommend` does. Where that refuses a user, an answer to a
batch must go on: such a user gets the items that most users have, and a status that says so.
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PyFuncModel, PythonModel, PythonModelContext
from safetensors.numpy import load_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = ["user", "rank", "item", "title", "score", "status"]
OK, UNKNOWN, UNTRAINED = "ok", "unknown user", "user without training data"
UNKNOWN_CANDIDATE = "unknown candidate"
ASKED = ("user", "candidates", "new_items")
"""Columns of a request."""
DEFAULTS: Mapping[str, Any] = {"k": 10, "exclude_seen": True}
"""Parameters of a request."""


class ServedModel(PythonModel):  # type: ignore[misc] # MLflow's classes have no types
    """Best items for users, from the vectors of a checkpoint."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the checkpoint among the model's artifacts; MLflow calls this once."""
        folder = Path(context.artifacts["checkpoint"])
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        folder /= manifest.get("version", "")
        ids = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "weights.safetensors")
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._arrays, self._widths = arrays, about.get("modalities", {})
        self._smooth = about.get("smooth", {})
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
                list ranks all. A column ``new_items``, if there, holds lists of further items to rank,
                each ``{"item": ID, "features": {MODALITY: numbers, or null where it has none}}``, and a
                ``title`` if wanted. Of a smooth column it is the number.
            params: ``k``, items a user (10 by default); ``exclude_seen``, whether items that the user
                has taken are left out (true by default).

        Returns:
            Columns ``user``, ``rank`` (from 1), ``item``, ``title``, ``score``, ``status``. Where the model
            has no scores for a user, the score is the number of users who have the item. Users with
            fewer items left than ``k`` get fewer rows. Each candidate that the model does not know is a
            row of its own after the user's items, without rank, title and score.

        Raises:
            MlflowException: a parameter or a column is none of these, ``k`` is below 1, or a new item's
                features are not what the model takes; over HTTP a status of 400.
        """
        asked_columns, asked_params = _as_asked(model_input, params)
        _need_known("column", asked_columns, ASKED)
        _need_known("parameter", asked_params, DEFAULTS)
        wanted = {**DEFAULTS, **(params or {})}
        if wanted["k"] < 1:
            raise _mistake(f"k must be at least 1 (found {wanted['k']})")
        nothing = [None] * len(model_input)
        asked = (
            model_input["user"],
            *(model_input.get(name, nothing) for name in ASKED[1:]),
        )
        rows = [
            row
            for user, candidates, new in zip(*asked, strict=True)
            for row in self._rows(_text(user), candidates, new if _is_list(new) else (), wanted)
        ]
        whole = all(row[-1] != UNKNOWN_CANDIDATE for row in rows)
        return pd.DataFrame(rows, columns=COLUMNS, dtype=None if whole else object)  # else None becomes NaN

    def _rows(
        self, user: str, candidates: object, new: Sequence[Mapping[str, Any]], params: Mapping[str, Any]
    ) -> list[tuple[object, ...]]:
        index = self._user_index.get(user)
        scores, status = self._scores(index)
        unknown: dict[str, None] = {}
        if index is not None and params["exclude_seen"]:
            scores[self._seen[index]] = -np.inf
        if _is_list(candidates):
            texts = [_text(item) for item in candidates]  # type: ignore[attr-defined] # it is a list
            unknown = {text: None for text in texts if text not in self._item_index}
            others = np.ones(len(scores), dtype=bool)
            others[[self._item_index[text] for text in texts if text not in unknown]] = False
            scores[others] = -np.inf
        items, titles = self._items, self._titles
        if len(new):
            ids, vectors = self._encoded(new)
            own = vectors @ self._user_vectors[index] if status == OK else np.zeros(len(new))
            scores = np.concatenate([scores, own])
            items = items + ids
            titles = titles + [_text(one.get("title", text)) for one, text in zip(new, ids, strict=True)]
        best = np.argsort(-scores, kind="stable")[: params["k"]]
        return [
            (user, rank, items[item], titles[item], float(scores[item]), status)
            for rank, item in enumerate(best, start=1)
            if np.isfinite(scores[item])
        ] + [(user, None, text, None, None, UNKNOWN_CANDIDATE) for text in unknown]

    def _encoded(self, new: Sequence[Any]) -> tuple[list[str], NDArray[np.float32]]:
        """Ids and vectors ``[n, D]`` of new items, as :mod:`painvrl.run.item_encoder` makes them."""
        if "encoder.weight" not in self._arrays:
            raise _mistake("this model does not hold what makes vectors of features")
        ids = [_text(one.get("item")) if isinstance(one, Mapping) else "" for one in new]
        known = {"", *self._item_index}
        for text in ids:
            if text in known:
                raise _mistake(f"each of new_items must have an `item`, an id that is new (found {text!r})")
            known.add(text)
        blocks, start = [], 0
        for name, width in self._widths.items():
            part = slice(start, start := start + width)
            mean, deviation = (self._arrays[f"encoder.{one}"][part] for one in ("mean", "deviation"))
            rows = np.zeros((len(new), width), dtype=np.float32)
            for place, one in enumerate(new):
                if (values := _values(one, name, self._widths, self._smooth.get(name))) is not None:
                    scaled = (values - mean) / deviation
                    if 0 < (peak := float(np.abs(scaled).max())) < 1e-9:  # its squares would be none
                        scaled = scaled / peak
                    rows[place] = scaled / max(float(np.linalg.norm(scaled)), 1e-12)
            blocks.append(rows)
        parts = np.concatenate(blocks, axis=1) @ self._arrays["encoder.weight"]  # [C, n, k]
        logits = parts @ self._arrays["encoder.query"]
        powers = np.exp(logits - logits.max(axis=0))
        vectors = np.tile(self._arrays["encoder.bias"], (len(new), 1))
        content = (powers / powers.sum(axis=0))[..., None] * parts
        vectors[:, vectors.shape[1] - parts.shape[2] :] += content.sum(axis=0)
        return ids, vectors

    def _scores(self, index: int | None) -> tuple[NDArray[np.floating[Any]], str]:
        """``[I]`` scores of a user, a new array, and the status that goes with them."""
        if index is None:
            return self._popularity.astype(np.float64), UNKNOWN
        vector = self._user_vectors[index]
        if not vector.any():  # as training leaves users without an interaction
            return self._popularity.astype(np.float64), UNTRAINED
        return self._item_vectors @ vector, OK


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


def _as_asked(columns: Iterable[Any], params: Iterable[str] | None) -> tuple[Iterable[Any], Iterable[str]]:
    """Names of the columns and parameters that MLflow was given.

    It drops those that the signature does not have, and says so in its own log alone: what its public
    ``predict(data, params)`` was called with is still among that call's variables.
    """
    frame = inspect.currentframe()
    while frame is not None:
        given = frame.f_locals
        if frame.f_code.co_name == "predict" and isinstance(given.get("self"), PyFuncModel):
            data = given.get("data")
            columns = data if isinstance(data, pd.DataFrame | Mapping) else columns
            return columns, given.get("params") or ()
        frame = frame.f_back
    return columns, params or ()


def _need_known(what: str, asked: Iterable[Any], known: Iterable[str]) -> None:
    """Refuse a misspelt name: an answer to something else looks like one to what was asked."""
    names = list(known)
    for name in asked:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            meant = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(names)}"
            raise _mistake(f"{name!r} is not a {what} of this model{meant}")


def _mistake(sentence: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(sentence)


def _values(
    new: Mapping[str, Any], name: str, widths: Mapping[str, int], smooth: Mapping[str, Any] | None
) -> NDArray[np.float32] | None:
    """The numbers of a new item's modality, or ``None`` if it has none; all modalities must be named.

    Of a smooth column the number itself is asked for, and made bumps of as painvrl makes them.
    """
    features, item = new.get("features"), new.get("item")
    if not isinstance(features, Mapping) or set(features) != set(widths):
        raise _mistake(f"features of the new item {item!r} must have the keys {', '.join(widths)}")
    if features[name] is None:
        return None
    wanted, kind = ((widths[name],), np.float32) if smooth is None else ((1,), np.float64)
    try:
        values: NDArray[Any] = np.atleast_1d(np.asarray(features[name], dtype=kind))
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != wanted or not np.isfinite(values).all():
        what = f"a list of {widths[name]} finite numbers" if smooth is None else "a finite number"
        raise _mistake(f"{name} of the new item {item!r} must be {what}")
    if smooth is not None:
        inside = np.clip(values, smooth["centres"][0], smooth["centres"][-1])
        values = np.exp(-0.5 * ((inside - smooth["centres"]) / smooth["width"]) ** 2)
    return values.astype(np.float32)


def _text(raw: object) -> str:
    """A raw id as checkpoints hold it. Where a column of integers has gaps, pandas makes floats of them."""
    if isinstance(raw, float | np.floating):
        return str(int(raw)) if raw.is_integer() else "" if np.isnan(raw) else str(raw)
    return "" if raw is None else str(raw)


set_model(ServedModel())

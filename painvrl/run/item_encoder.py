"""New items by their features alone: from raw features to the vectors that the model would have given them.

NumPy only. ``serving/served_model.py``, which stands alone, computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from painvrl.core.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

F = TypeVar("F", np.float32, np.float64)


@dataclass(frozen=True, kw_only=True)
class ItemEncoder:
    """The projections of a trained model, and how features are scaled before.

    Attributes:
        widths: columns of each modality, in the order in which they are concatenated.
        smooth: of the modalities that are a column of numbers as bumps, the ``centres`` and the ``width``
            (:mod:`painvrl.data.smooth`); of these the number itself is asked for.
        mean: ``[F]``. deviation: ``[F]``; columns are centred and divided by them.
        weight: ``[C, F, k]``. query: ``[k]``. bias: ``[D]``; see :class:`painvrl.model.mixing.Projection`.
    """

    widths: Mapping[str, int]
    smooth: Mapping[str, Mapping[str, Any]]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    weight: NDArray[np.float32]
    query: NDArray[np.float32]
    bias: NDArray[np.float32]

    def encode(self, features: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """``[n, D]``: vectors of items without an interaction.

        Args:
            features: by modality ``[n, F_a]``, all of them, as the data's own features stand before any
                scaling; ``[n, 1]`` numbers of a smooth column. A row of NaN is an item that lacks the
                modality.

        Raises:
            ConfigError: a modality is missing or unknown, or its values are not what the model takes.
        """
        if set(features) != set(self.widths):
            raise ConfigError(
                f"must hold the modalities {', '.join(self.widths)}, each with a row an item",
                key="features",
                value=", ".join(features),
            )
        scaled, start = [], 0
        for name, width in self.widths.items():
            columns = slice(start, start := start + width)
            if name in self.smooth:
                numbers = _matrix(name, features[name], 1, np.float64)
                values = _bumps(numbers, **self.smooth[name])
            else:
                values = _matrix(name, features[name], width, np.float32)
            absent = _absent(values)
            rows = (np.where(absent, 0, values) - self.mean[columns]) / self.deviation[columns]
            peak = np.abs(rows).max(axis=1, keepdims=True)  # as in :func:`painvrl.data.features.unit_rows`
            rows /= np.where((peak > 0) & (peak < 1e-9), peak, np.float32(1))
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
            scaled.append(np.where(absent, np.float32(0), rows))
        counts = sorted({len(rows) for rows in scaled})
        if len(counts) > 1:
            raise ConfigError("modalities must have as many rows each", key="features", value=counts)
        parts = np.concatenate(scaled, axis=1) @ self.weight  # [C, n, k]
        logits = parts @ self.query
        powers = np.exp(logits - logits.max(axis=0))
        share = powers / powers.sum(axis=0)
        vectors = np.tile(self.bias, (parts.shape[1], 1))
        vectors[:, vectors.shape[1] - parts.shape[2] :] += (share[..., None] * parts).sum(axis=0)
        return vectors


def _bumps(numbers: NDArray[np.float64], centres: Sequence[float], width: float) -> NDArray[np.float32]:
    """``[n, B]`` heights of the bumps at ``[n, 1]`` numbers, as :mod:`painvrl.data.smooth` makes them."""
    inside = np.clip(numbers, centres[0], centres[-1])
    heights: NDArray[np.float32] = np.exp(-0.5 * ((inside - centres) / width) ** 2).astype(np.float32)
    return heights


def _matrix(name: str, given: Any, width: int, kind: type[F]) -> NDArray[F]:
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            values: NDArray[F] = np.asarray(given, dtype=kind)
    except (TypeError, ValueError):
        raise ConfigError("must be a matrix of numbers", key=f"features.{name}") from None
    if values.ndim != 2 or values.shape[1] != width:
        raise ConfigError(
            f"must have {width} columns, and a row an item", key=f"features.{name}", value=values.shape
        )
    odd = ~np.isfinite(values) & ~_absent(values)
    if odd.any():
        raise ConfigError(
            "must be finite; a row of NaN alone is an item without this modality",
            key=f"features.{name}",
            value=f"row {int(odd.any(axis=1).argmax())}",
        )
    return values


def _absent(values: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """``[n, 1]``: rows of NaN alone."""
    return np.asarray(np.isnan(values).all(axis=1, keepdims=True))

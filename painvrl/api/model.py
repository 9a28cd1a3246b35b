"""A trained recommender, ready to be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from painvrl.api.inputs import DEFAULT_WORKSPACE, PathLike, place_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from painvrl.core.workspace import Workspace
    from painvrl.run.checkpoint import Checkpoint


class Model:
    """A checkpoint. A score is the product of a user's vector and an item's.

    Attributes:
        checkpoint: all that was kept: ids, titles, the mask, metrics, and the configuration as ``settings``.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def __repr__(self) -> str:
        users, items = len(self.checkpoint.user_ids), len(self.checkpoint.item_ids)
        return f"<Model of {users:,} users and {items:,} items, {self.checkpoint.path}>"

    @property
    def user_vectors(self) -> NDArray[np.float32]:
        """``[U, D]`` float32, in the order of :attr:`user_ids`."""
        return self.checkpoint.user_vectors

    @property
    def item_vectors(self) -> NDArray[np.float32]:
        """``[I, D]`` float32, in the order of :attr:`item_ids`."""
        return self.checkpoint.item_vectors

    @property
    def user_ids(self) -> tuple[str, ...]:
        """Raw ids of the users, as text."""
        return self.checkpoint.user_ids

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Raw ids of the items, as text."""
        return self.checkpoint.item_ids

    def recommend(
        self, users: str | int | Iterable[str | int], k: int = 10, *, explain: bool = False
    ) -> pd.DataFrame:
        """The best items that each user has not taken yet: columns user, rank, item, title, score.

        Args:
            users: one raw id, or several.
            k: items a user; one who has taken nearly everything gets fewer.
            explain: add a column for each part of the score; they sum up to it but for rounding.

        Raises:
            ConfigError: a user is unknown, or was not trained on.
        """
        import pandas as pd

        several = [users] if isinstance(users, str | Integral) else list(users)  # type: ignore[arg-type]
        rows = [
            {"user": str(user), **asdict(one)}
            for user in several
            for one in self.checkpoint.recommend(str(user), k)
        ]
        columns = ["user", "rank", "item", "title", "score"]
        if explain:
            columns += self.checkpoint.parts
            rows = [row | self.checkpoint.explain(row["user"], row["item"]) for row in rows]
        return pd.DataFrame(rows, columns=columns)

    def encode_items(self, features: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """``[n, D]``: vectors of items that were not in the data, of their features alone.

        A product with a row of :attr:`user_vectors` is such an item's score.

        Args:
            features: by modality ``[n, F_a]``, all that the data have, as they stand before any scaling;
                ``[n, 1]`` numbers of a smooth column. A row of NaN is an item without this modality.

        Raises:
            UserError: the features are not what the model takes, or an earlier version saved the model.
        """
        return self.checkpoint.encode_items(features)

    def export(self, path: PathLike) -> tuple[Path, ...]:
        """Write vectors, ids and titles for other systems, as ``painvrl export`` does.

        Args:
            path: ``NAME.npz`` or ``NAME.safetensors``; ``NAME.parquet`` makes two files.

        Returns:
            The files that were written.

        Raises:
            UserError: the suffix is another one, or the file cannot be written.
        """
        from painvrl.serving.export import export

        return export(self.checkpoint, Path(path)).files


def load_model(
    checkpoint: PathLike | None = None, *, workspace: Workspace | PathLike = DEFAULT_WORKSPACE
) -> Model:
    """A trained model, without torch and without the data.

    Args:
        checkpoint: its folder; without it the latest of the workspace.
        workspace: where ``painvrl train`` keeps checkpoints.

    Raises:
        DataError: there is none, or it is damaged.

    Example::

        model = painvrl.load_model()
        model.recommend(["1", "2"], k=5)
    """
    from painvrl.run.checkpoint import latest_checkpoint, load_checkpoint

    folder = latest_checkpoint(place_of(workspace).checkpoints) if checkpoint is None else Path(checkpoint)
    return Model(load_checkpoint(folder))

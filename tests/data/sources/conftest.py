"""Files of a small shop: 6 users, 5 items, ratings, descriptions and features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from painvrl.data.sources import text

RATINGS = pd.DataFrame(
    {
        "who": [f"u{user}" for user in range(6) for _ in range(4)],
        "what": [(user + step) % 5 + 10 for user in range(6) for step in range(4)],
        "stars": [1.0 + (user * 4 + step) % 5 for user in range(6) for step in range(4)],
        "when": range(1000, 1024),
    }
)
FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3) + 1


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Path:
    """The folder of the files, which is the current directory, too."""
    monkeypatch.chdir(tmp_path)
    RATINGS.to_csv("ratings.csv", index=False)
    np.savez("features.npz", ids=np.array([13, 11, 10, 99]), look=FEATURES)
    pd.DataFrame(
        {
            "id": [10, 11, 12, 13],
            "name": ["Ash", "Birch", None, "Cedar"],
            "kind": ["a|b", "b", "", "c| a"],
            "about": ["grey", None, None, "red"],
        }
    ).to_csv("items.csv", index=False)
    return tmp_path


@pytest.fixture
def fake_encoder(monkeypatch) -> list[list[str]]:
    """Replaces the encoder; vectors start with a text's length; above 40 it is cut. Gives the calls made."""
    calls: list[list[str]] = []

    def encode(texts: list[str]) -> tuple[np.ndarray, int]:
        calls.append(texts)
        vectors = np.zeros((len(texts), text.WIDTH), dtype=np.float32)
        vectors[:, 0] = [len(entry) for entry in texts]
        return vectors, int((vectors[:, 0] > 40).sum())

    monkeypatch.setattr(text, "_encode", encode)
    return calls

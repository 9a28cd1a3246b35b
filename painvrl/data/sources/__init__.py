"""Readers of data sets: MovieLens, the published multimodal folders, the user's own table, planted data.

The only code that opens data files. Prepared data (after all filters, before any split) are
cached under a digest of the configuration, the packages, a layout number and the content of every
named file.
Relative paths in a configuration are taken from the current directory.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import painvrl
from painvrl.core.device import is_out_of_memory
from painvrl.core.errors import DataError
from painvrl.core.memory import at_most, refusal
from painvrl.core.registry import SettingsIn, foreign_code
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.digest import digest_of, digest_of_file
from painvrl.data.sources.items import ItemTable as ItemTable
from painvrl.data.sources.mmgcn import MmgcnConfig as MmgcnConfig
from painvrl.data.sources.mmrec import MmrecConfig as MmrecConfig
from painvrl.data.sources.modality_file import ModalityFile as ModalityFile
from painvrl.data.sources.movielens import MovieLensConfig as MovieLensConfig
from painvrl.data.sources.planted import PlantedConfig as PlantedConfig
from painvrl.data.sources.port import SOURCES, Source
from painvrl.data.sources.prepared import load_dataset, store_dataset
from painvrl.data.sources.table import TableConfig as TableConfig
from painvrl.data.sources.table import UserTable as UserTable

_logger = logging.getLogger(__name__)

_LAYOUT = 5  # raise it when the readers, the filters or the stored arrays give something else than before

DataConfig = Annotated[Source, SettingsIn(SOURCES)]


def load(config: DataConfig, *, cache_dir: Path, seed: int) -> Dataset:
    """Read the data set that ``config`` names, from the cache where it was prepared before.

    Args:
        config: relative paths in it are taken from the current directory.
        cache_dir: holds ``prepared/`` and ``encodings/``; made when something is written.
        seed: only planted data depend on it.

    Raises:
        DataError: a package, a file, a column or a value is not as it must be, or takes too much memory.
    """
    _logger.info("%s %s data", "drawing" if config.is_drawn else "reading", config.kind)
    with at_most(config.memory_limit):
        try:
            return _load(config, cache_dir, seed)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise DataError(refusal(), key="data") from error


def _load(config: DataConfig, cache_dir: Path, seed: int) -> Dataset:
    encodings = ArrayCache(cache_dir / "encodings")
    if config.is_drawn:
        return config.read(encodings, seed)
    prepared = ArrayCache(cache_dir / "prepared")
    key = _key(config)
    dataset = load_dataset(prepared, key)
    if dataset is None:
        dataset = config.read(encodings, seed)
        store_dataset(prepared, key, dataset)
        # Large matrices are mapped from the cache from here on, and no longer from the user's files.
        dataset = load_dataset(prepared, key) or dataset
    return dataset


def _key(config: Source) -> str:
    """Digest of everything that decides the prepared data set.

    File names count, because in a folder they can decide what a file is. A file that cannot be read
    has no digest; its reader then says what is wrong with it.
    """
    packages = [f"painvrl=={painvrl.__version__}", f"layout {_LAYOUT}", *config.packages()]
    files = [(path.name, _digest_or_none(path)) for path in config.named_files()]
    settings = config.model_dump(mode="json", exclude={"memory_limit"})
    return digest_of("prepared", settings, packages, files, *map(list, foreign_code()))


def _digest_or_none(path: Path) -> str | None:
    try:
        return digest_of_file(path) if path.is_file() else None  # a pipe would be waited for
    except OSError:
        return None

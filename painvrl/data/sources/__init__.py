"""Readers of data sets: MovieLens, the published multimodal folders, the user's own table, planted data.

The only code that opens data files. Prepared data (after all filters, before any split) are
cached under a digest of the configuration, the packages, a layout number and the content of every
named file.
Relative paths in a configuration are taken from the current directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

import painvrl
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.digest import digest_of, digest_of_file
from painvrl.data.sources.mmgcn import MmgcnConfig as MmgcnConfig
from painvrl.data.sources.mmgcn import read_mmgcn
from painvrl.data.sources.mmrec import MmrecConfig as MmrecConfig
from painvrl.data.sources.mmrec import read_mmrec
from painvrl.data.sources.modality_file import ModalityFile as ModalityFile
from painvrl.data.sources.movielens import MovieLensConfig as MovieLensConfig
from painvrl.data.sources.movielens import movielens_version, read_movielens
from painvrl.data.sources.planted import PlantedConfig as PlantedConfig
from painvrl.data.sources.planted import read_planted
from painvrl.data.sources.prepared import load_dataset, store_dataset
from painvrl.data.sources.table import ItemTable as ItemTable
from painvrl.data.sources.table import TableConfig as TableConfig
from painvrl.data.sources.table import UserTable as UserTable
from painvrl.data.sources.table import read_table_source
from painvrl.data.sources.text import encoder_id

_LAYOUT = 3  # raise it when the readers, the filters or the stored arrays give something else than before

FileConfig = MovieLensConfig | TableConfig | MmgcnConfig | MmrecConfig
DataConfig = Annotated[FileConfig | PlantedConfig, Field(discriminator="kind")]


def load(config: DataConfig, *, cache_dir: Path, seed: int) -> Dataset:
    """Read the data set that ``config`` names, from the cache where it was prepared before.

    Args:
        config: relative paths in it are taken from the current directory.
        cache_dir: holds ``prepared/`` and ``encodings/``; made when something is written.
        seed: only planted data depend on it.

    Raises:
        DataError: a package, a file, a column or a value is not as it must be.
    """
    if isinstance(config, PlantedConfig):
        return read_planted(config, seed)
    prepared = ArrayCache(cache_dir / "prepared")
    key = _key(config)
    dataset = load_dataset(prepared, key)
    if dataset is None:
        encodings = ArrayCache(cache_dir / "encodings")
        match config:
            case MovieLensConfig():
                dataset = read_movielens(config, encodings)
            case MmgcnConfig():
                dataset = read_mmgcn(config, encodings)
            case MmrecConfig():
                dataset = read_mmrec(config, encodings)
            case TableConfig():
                dataset = read_table_source(config, encodings)
        store_dataset(prepared, key, dataset)
        # Large matrices are mapped from the cache from here on, and no longer from the user's files.
        dataset = load_dataset(prepared, key) or dataset
    return dataset


def _key(config: FileConfig) -> str:
    """Digest of everything that decides the prepared data set.

    File names count, because in a folder they can decide what a file is. A file that cannot be read
    has no digest; its reader then says what is wrong with it.
    """
    packages = [f"painvrl=={painvrl.__version__}", f"layout {_LAYOUT}"]
    if isinstance(config, MovieLensConfig) and config.path is None:
        packages.append(movielens_version())
    if config.uses_text:
        packages.append(encoder_id())
    files = [(path.name, _digest_or_none(path)) for path in config.named_files()]
    return digest_of("prepared", config.model_dump(mode="json"), packages, files)


def _digest_or_none(path: Path) -> str | None:
    try:
        return digest_of_file(path) if path.is_file() else None  # a pipe would be waited for
    except OSError:
        return None

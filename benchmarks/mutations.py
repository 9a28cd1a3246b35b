"""Files that no one wrote: mutated specifications and data, flipped bits. ``python -m benchmarks.mutations``.

Each is read as the commands read it. A ``UserError`` may come of it, or what would come of a sound file. Any
other error is a fault, and so are 5 s of computing and 2 GiB of memory. A cache or a checkpoint with a
flipped bit is as it was, or counts as none. Prints what was tried, and each fault once. ``--minutes`` ends it
earlier: each of the three kinds has a third of them.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import logging
import math
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet

from painvrl.core.device import peak_memory_mib
from painvrl.core.errors import UserError
from painvrl.core.tensorfile import read_tree, write_tree
from painvrl.data.cache import ArrayCache
from painvrl.data.sources import MmgcnConfig, MmrecConfig, MovieLensConfig, TableConfig, load
from painvrl.data.sources.port import Source
from painvrl.run.checkpoint import load_checkpoint, save_checkpoint
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import run
from painvrl.run.prepare import prepare
from painvrl.study.ablation.spec import load_study_file

STUDIES = Path(__file__).parent.parent / "studies"
SECONDS, GIB = 5.0, 2.0
WORDS = [
    *(
        "!!bool perhaps",
        "&a [*a]",
        "*a",
        "1e999",
        ".nan",
        "-1",
        "0",
        "null",
        "[]",
        "{}",
        "''",
        "true",
        "9" * 5000,
    ),
    *(
        "0x" + "f" * 400,
        "[[[[[[]]]]]]",
        "{a: {b: {c: 1}}}",
        '"\\0"',
        '"\\ud800"',
        '"\\x1b[2J"',
        "!!set {a}",
        "&b x",
    ),
    *(
        "\t",
        "- ",
        ": ",
        "? ",
        "|",
        ">",
        "%YAML 9",
        "---",
        "...",
        "<<: ",
        "@",
        "`",
        "2020-01-01",
        "1_000",
        "../../x",
    ),
]
TINY: dict[str, Any] = {
    "data": {
        "kind": "planted",
        "n_users": 60,
        "n_items": 80,
        "n_invariant": 4,
        "n_spurious": 4,
        "n_noise": 2,
        "interactions_per_environment": 6,
    },
    "split": {"protocol": "planted"},
    "backbone": {"id_dim": 4, "content_dim": 4},
    "training": {"max_epochs": 2, "evaluate_every": 1},
    "environments": {"count": 2, "restarts": 1, "steps": 2},
    "mask": {"steps": 2},
    "rounds": 1,
}


class Hung(BaseException):
    """It computes for longer than it may; no handler of errors catches it."""


@contextmanager
def in_time() -> Iterator[None]:
    """Only so many seconds of this process's own computing, however busy the machine is."""

    def stop(*_: object) -> None:
        raise Hung

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class Trials:
    """Counts what comes of inputs, and keeps each kind of fault once with its traceback."""

    def __init__(self, minutes: float) -> None:
        self._share = minutes * 20
        self.counts: Counter[str] = Counter()
        self.faults: dict[str, str] = {}
        self.slowest = 0.0

    def each(self, count: int) -> Iterator[int]:
        """So many, or as many as there is time for."""
        end = time.monotonic() + self._share
        return itertools.takewhile(lambda _: time.monotonic() < end, range(count))

    def one(self, kind: str, read: Callable[[], str]) -> None:
        """Read one input, and count what came of it."""
        start = time.process_time()
        try:
            with in_time():
                came = read()
        except UserError as error:
            came = "refused"
            if len(str(error)) > 20_000:
                self._fault(kind, "a message of more than 20,000 characters", error)
        except (Exception, Hung) as error:  # noqa: BLE001 (that is the question)
            came = "fault"
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._fault(kind, f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}", error)
        self.slowest = max(self.slowest, time.process_time() - start)
        self.counts[f"{kind} {came}"] += 1

    def _fault(self, kind: str, name: str, error: BaseException) -> None:
        self.faults.setdefault(f"{kind}: {name}", "".join(traceback.format_exception(error))[-1500:])

    def wrong(self, kind: str, what: str) -> None:
        """Keep as a fault that damage passes for a sound file."""
        self.faults.setdefault(f"{kind}: passes for what it is not", what)


def mutated_text(text: str, draw: random.Random) -> str:
    """Lines and words of a file taken out, doubled, moved or replaced."""
    for _ in range(draw.randint(1, 4)):
        lines = text.split("\n")
        place = draw.randrange(len(lines))
        match draw.randrange(7):
            case 0:
                del lines[place]
            case 1:
                lines.insert(draw.randrange(len(lines)), lines[place])
            case 2:
                lines[place] = " " * draw.randint(0, 6) + lines[place].lstrip()
            case 3:
                key, colon, _ = lines[place].partition(":")
                lines[place] = f"{key}{colon} {draw.choice(WORDS)}"
            case 4:
                lines.insert(place, draw.choice(WORDS))
            case 5:
                at = draw.randrange(len(lines[place]) + 1)
                lines[place] = lines[place][:at] + chr(draw.randrange(1, 0x3000)) + lines[place][at + 1 :]
            case 6:
                words = lines[place].split(" ")
                words[draw.randrange(len(words))] = draw.choice(WORDS)
                lines[place] = " ".join(words)
        text = "\n".join(lines) or "a"
    return text


def mutated_bytes(content: bytes, draw: random.Random) -> bytes:
    """Bits flipped, bytes taken out, doubled or replaced, the end cut off."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        if not changed:
            break
        at, length = draw.randrange(len(changed)), draw.choice((1, 1, 4, 40))
        match draw.randrange(5):
            case 0:
                changed[at] ^= 1 << draw.randrange(8)
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = changed[at : at + length]
            case 3:
                changed[at : at + length] = draw.randbytes(length)
            case 4:
                del changed[at + len(changed) // 2 :]
    return bytes(changed)


def specifications(trials: Trials, count: int, draw: random.Random, folder: Path) -> None:
    """Files of studies and ablations, as ``study validate`` reads them."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(STUDIES.glob("*.yaml"))]
    path = folder / "study.yaml"

    def read() -> str:
        load_study_file(path)
        return "accepted"

    for _ in trials.each(count):
        path.write_bytes(mutated_text(draw.choice(texts), draw).encode("utf-8", "surrogatepass"))
        trials.one("specifications", read)


def data_files(folder: Path) -> list[tuple[Source, list[Path]]]:
    """Small data of each format, with the files that are mutated."""
    draw = np.random.default_rng(0)
    user, item = np.repeat(np.arange(30), 8), np.concatenate([draw.permutation(40)[:8] for _ in range(30)])
    for name in ("table", "mmgcn", "mmrec", "movielens"):
        (folder / name).mkdir()
    table, mmgcn, mmrec, movielens = (folder / name for name in ("table", "mmgcn", "mmrec", "movielens"))

    rows = [f'u{u},"i{i}",{u % 5},2024-01-{1 + i % 28:02d}' for u, i in zip(user, item, strict=True)]
    (table / "a.csv").write_text("user,item,stars,day\n" + "\n".join(rows), encoding="utf-8")
    (table / "a.csv.gz").write_bytes(gzip.compress((table / "a.csv").read_bytes()))
    ids = np.array([f"i{i}" for i in range(40)])
    described = {"id": ids, "tag": [f"t{i % 4}" for i in range(40)], "size": draw.normal(size=40)}
    parquet.write_table(
        pa.table({**described, "list": draw.normal(size=(40, 3)).tolist()}), table / "a.parquet"
    )
    np.savez_compressed(table / "a.npz", ids=ids, x=draw.normal(size=(40, 3)))
    np.save(table / "a.npy", draw.normal(size=(40, 3)))
    np.save(table / "ids.npy", ids.astype(object), allow_pickle=True)
    torch.save(torch.randn(40, 3), mmgcn / "feat_a.pt")
    np.save(mmgcn / "feat_v.npy", draw.normal(size=(40, 3)))
    pairs = np.stack([user, item + 30], axis=1)
    np.save(mmgcn / "train.npy", pairs[:200])
    for name, part in (("val_full", pairs[200:220]), ("test_full", pairs[220:])):
        held = np.empty(len(part), dtype=object)
        held[:] = [pair.tolist() for pair in part]
        np.save(mmgcn / f"{name}.npy", held, allow_pickle=True)
    lines = [f"{u}\t{i}\t{i % 5}\t{u * i}\t{u % 3}" for u, i in zip(user, item, strict=True)]
    (mmrec / "a.inter").write_text("\n".join(["userID\titemID\trating\ttimestamp\tx_label", *lines]))
    np.save(mmrec / "image_feat.npy", draw.normal(size=(40, 3)).astype(np.float32))
    lines = [f"{u},{i},{i % 5},{u * i}" for u, i in zip(user, item, strict=True)]
    (movielens / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *lines]))
    films = [f'{i},"Film, {i} (1999)",Comedy|Drama' for i in range(40)]
    (movielens / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]))

    def of_table(name: str) -> Source:
        files = {
            "z": {"path": table / "a.npz", "key": "ids", "values": "x"},
            "y": {"path": table / "a.npy", "key": "ids.npy"},
            "p": {"path": table / "a.parquet", "key": "id", "values": ["size", "list"]},
        }
        items = {"path": table / "a.parquet", "key": "id", "categories": "tag"}
        columns = {"rating": "stars", "time": "day", "core": 1, "item_table": items, "files": files}
        return TableConfig.model_validate({"path": table / name, **columns})

    folders: list[tuple[Source, Path]] = [
        (MmgcnConfig(path=mmgcn), mmgcn),
        (MmrecConfig(path=mmrec, core=1), mmrec),
        (MovieLensConfig(path=movielens, core=1, modalities=("genres",)), movielens),
    ]
    binary = [table / name for name in ("a.parquet", "a.npz", "a.npy", "ids.npy")]
    return [
        (of_table("a.csv"), [table / "a.csv", *binary]),
        (of_table("a.csv.gz"), [table / "a.csv.gz"]),
        *((source, sorted(where.iterdir())) for source, where in folders),
    ]


def data(trials: Trials, count: int, draw: random.Random, folder: Path) -> None:
    """Files of data, as a study reads them."""
    made = data_files(folder)
    for source, _ in made:
        load(source, cache_dir=folder / "cache", seed=0)  # they are sound
        shutil.rmtree(folder / "cache")
    choices = [(source, path, path.read_bytes()) for source, paths in made for path in paths]

    for _ in trials.each(count):
        source, path, content = draw.choice(choices)
        path.write_bytes(mutated_bytes(content, draw))

        def read(source: Source = source) -> str:
            source.read(ArrayCache(folder / "encodings"), 0)
            return "accepted"

        trials.one(f"data {path.suffix}", read)
        path.write_bytes(content)


def flips(trials: Trials, count: int, draw: random.Random, folder: Path) -> None:
    """Files of caches and checkpoints with one bit flipped."""
    logging.disable()  # that each is damaged is said, thousands of times
    cache, key = ArrayCache(folder / "flipped"), "k"
    generator = np.random.default_rng(0)
    cache.store(
        key, {"a": generator.normal(size=(20, 3)), "b": np.arange(9), "c": np.zeros((0, 2))}, beside=["b"]
    )
    tree = {"a": torch.arange(40.0), "b": [1, "two", None]}
    write_tree(folder / "tree.pt", tree, most_bytes=1 << 30)
    config = TrainConfig.model_validate(TINY)
    prepared = prepare(config, cache_dir=folder / "cache", device=torch.device("cpu"))
    checkpoint = save_checkpoint(folder / "checkpoint", run(config, prepared), prepared)

    def of_cache() -> object:
        found = cache.load(key)
        return None if found is None else {name: array.tolist() for name, array in found.items()}

    def of_tree() -> object:
        found = read_tree(folder / "tree.pt")
        return None if found is None else (found["a"].tolist(), found["b"])

    def of_checkpoint() -> object:
        found = load_checkpoint(checkpoint)
        vectors = found.user_vectors.tolist(), found.item_vectors.tolist(), found.mask.tolist()
        return vectors, found.user_ids, found.item_ids, found.titles, found.settings, found.metrics

    targets = [
        *(("cache", path, of_cache) for path in sorted((folder / "flipped").iterdir())),
        ("tree", folder / "tree.pt", of_tree),
        *(("checkpoint", path, of_checkpoint) for path in sorted(checkpoint.rglob("*")) if path.is_file()),
    ]
    sound = {kind: read() for kind, _, read in targets}
    contents = {path: path.read_bytes() for _, path, _ in targets}
    for _ in trials.each(count):
        kind, path, read = draw.choice(targets)
        changed = bytearray(contents[path])
        at, bit = draw.randrange(len(changed)), draw.randrange(8)
        changed[at] ^= 1 << bit
        path.write_bytes(changed)

        def came_to(
            kind: str = kind, read: Callable[[], object] = read, where: str = f"{path.name}: {at}.{bit}"
        ) -> str:
            found = read()
            if found is None:
                return "none"
            if found != sound[kind]:
                trials.wrong(kind, where)
            return "as it was"

        trials.one(kind, came_to)
        path.write_bytes(contents[path])


def main() -> None:
    """See the module."""
    options = argparse.ArgumentParser(description=__doc__)
    for name, count in (("specs", 5_000), ("data", 5_000), ("flips", 40_000), ("seed", 0)):
        options.add_argument(f"--{name}", type=int, default=count)
    options.add_argument("--minutes", type=float, default=math.inf)
    chosen = options.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (int(GIB * 2**30), hard))
    trials = Trials(chosen.minutes)
    with tempfile.TemporaryDirectory() as folder:
        draw = random.Random(chosen.seed)
        specifications(trials, chosen.specs, draw, Path(folder))
        data(trials, chosen.data, draw, Path(folder))
        flips(trials, chosen.flips, draw, Path(folder))
    peak = (peak_memory_mib(torch.device("cpu")) or 0.0) / 1024
    said = {"counts": dict(sorted(trials.counts.items())), "slowest_seconds": round(trials.slowest, 2)}
    print(json.dumps({**said, "peak_gib": round(peak, 2), "faults": trials.faults}, indent=1))
    sys.exit(1 if trials.faults else 0)


if __name__ == "__main__":
    main()

"""What tables and feature files say of the items: ids, titles, texts, tags and features."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from painvrl.core.errors import DataError
from painvrl.data.proposal.entries import Entry
from painvrl.data.proposal.interactions import Roles, matches
from painvrl.data.proposal.looks import (
    ITEM,
    TAGS,
    TITLE,
    USER,
    Look,
    is_called,
    looks_of,
    require_header,
    squashed,
    stem_of,
)
from painvrl.data.proposal.questions import Answers, Candidate, Question
from painvrl.data.sources.columns import require_distinct
from painvrl.data.sources.messages import Place
from painvrl.data.sources.modality_file import ModalityFile, ids_of, read_modality
from painvrl.data.sources.safe_npy import map_npy, read_npy_stream
from painvrl.data.sources.tabular import lines_of, read_table
from painvrl.data.sources.text import encoder_id
from painvrl.data.sources.values import SAVED_INDEX

FEATURES = (".npz", ".npy")
AT_LEAST = 0.5
"""The share of items that the readers ask a file for."""
_SHOWN = 30
"""Characters of an id that an error shows."""
_WIDE = 8
"""From so many columns of numbers on a table holds features; fewer are years or prices."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """Of one file: the section ``item_table``, if it is one, and entries of ``files``.

    ``most``: items that the one describes which describes most.
    """

    item_table: tuple[Entry, ...] = ()
    files: tuple[Entry, ...] = ()
    most: int = 0


def keys_in(path: Path) -> dict[str, np.ndarray]:
    """Every column or array of the file that names each of its rows once, by its name."""
    if path.suffix.lower() in FEATURES:
        return {name: ids for name, (ids, _) in _arrays(path)[0].items()}
    return {look.name: look.distinct for look in looks_of(read_table(path, key="init")) if _may_be_key(look)}


def _may_be_key(look: Look) -> bool:
    return look.is_key and not look.has_fractions and not SAVED_INDEX.fullmatch(look.name)


def described(path: Path, roles: Roles, answers: Answers) -> Described:
    """What the file says of the items of ``roles``.

    Raises:
        DataError: the file cannot be read, or names none of the items.
        ConfigError: an answer does not fit.
    """
    items = roles.items
    if path.suffix.lower() in FEATURES:
        features = list(_features_in(path, roles, answers))
        files = tuple(entry for entry, _ in features)
        return Described(files=files, most=max((matched for _, matched in features), default=0))
    table = read_table(path, key="init")
    answers.said += table.notes
    looks = {look.name: look for look in looks_of(table)}
    keys = [look for look in looks.values() if _may_be_key(look)]
    require_header(looks.values(), path, *(look.name for look in keys if look.name in items))
    fitting = [look for look in keys if matches(items, look.distinct)]
    if any(look.is_called(ITEM) or look.name == roles.item for look in fitting):
        of_users = False
    elif fitting:
        of_users = any(_is_of_users(look.name, look.distinct, path, roles) for look in keys)
    else:
        of_users = any(matches(roles.users, look.distinct) for look in keys)
    if of_users and answers.given.get("--key") not in looks:
        advice = "; --key names its column if it describes items" if fitting else ""
        answers.said.append(f"not used: {path} describes users, which only split.user_group reads{advice}")
        return Described()
    if not fitting:
        doubled = [line for look in looks.values() if (line := _doubled(look, items)) is not None]
        raise Place(path, "init").error(
            f"no column holds the ids of the items, each once (they are {items[0]}, ...). Mend the ids, or "
            "let --item name another column. The interactions come first",
            "; ".join(doubled)
            or ", ".join(f"{look.name}: {str(look.distinct[0])[:_SHOWN]}, ..." for look in keys)
            or "no column without repeated values",
        )
    candidates = sorted((_as_key(look, items) for look in keys), key=lambda one: -one.score)
    key = answers.decide(
        Question(option="--key", what="key", file=str(path), candidates=candidates, known=table.names)
    )
    assert key is not None
    matched = matches(items, looks[key.name].distinct)
    rest = [look for look in looks.values() if look.name != key.name]
    numeric = [look.name for look in rest if look.is_list or _measures(look)]
    files = ()
    if len(numeric) >= _WIDE or any(looks[name].is_list for name in numeric):
        source = {"path": path.as_posix(), "key": key.name, "values": numeric}
        read_modality(ModalityFile.model_validate(source), where=f"files.{path.name.partition('.')[0]}")
        files = (_of_file(path.name.partition(".")[0], source, matched, len(items), answers),)
        rest = [look for look in rest if look.name not in numeric]
    section = _item_table(path, key, matched, len(items), rest, answers)
    return Described(item_table=section, files=files, most=matched if section or files else 0)


def _is_of_users(name: str, ids: np.ndarray, path: Path, roles: Roles) -> bool:
    """Whether ids are those of users: by their column's name, else by the file's. Numbers fit items, too."""
    if name == roles.item or not matches(roles.users, ids):
        return False
    if name == roles.user or is_called(name, USER):
        return True
    words = [word for word in re.split(r"[^a-z]+", path.name.lower()) if word]
    words += [word.removesuffix("s") for word in words]
    if stem_of(roles.item) in (stem_of(name), *words):
        return False
    users, items = (any(is_called(word, called) for word in words) for called in (USER, ITEM))
    return users and not items and not is_called(name, ITEM)


def _doubled(look: Look, items: np.ndarray) -> str | None:
    """Which row says an item's id again, where the column has the ids of most of them."""
    if look.texts is None or look.is_key or 2 * matches(items, look.distinct) < len(items):
        return None
    try:
        require_distinct(look.texts, Place("", ""))
    except DataError as error:
        return f"{look.name}: {error.rule}"
    return f"{look.name}: {look.missing:,} rows without an id"


def _measures(look: Look) -> bool:
    """Whether it holds numbers that are not further ids, each whole and in one row only."""
    return look.numbers is not None and not (look.is_key and (look.numbers % 1 == 0).all())


def _as_key(look: Look, items: np.ndarray) -> Candidate:
    matched = matches(items, look.distinct)
    named = look.is_called(ITEM) or look.squashed in ("id", "key")
    return Candidate(
        name=look.name,
        score=matched / len(items) + 0.5 * named,
        why=f"{matched:,} of {len(items):,} items matched",
    )


def _item_table(
    path: Path, key: Candidate, matched: int, total: int, rest: Sequence[Look], answers: Answers
) -> tuple[Entry, ...]:
    """The section; nothing where the table has neither texts nor tags."""
    texts = [look for look in rest if look.sample and not look.holds_numbers]
    answers.said += [
        f"{look.name} of {path} is not used: its texts are printed lists, such as {look.sample[0][:_SHOWN]}; "
        "write tags divided by |, and numbers in columns of their own"
        for look in texts
        if look.written_lists
    ]
    texts = [look for look in texts if not look.written_lists]
    tags = [look for look in texts if look.tag_separator is not None and not TITLE.search(look.squashed)]
    free = [look for look in texts if look not in tags and (look.words >= 2 or TITLE.search(look.squashed))]
    titles = [
        Candidate(name=look.name, score=1.0 - place / 2, why="its name says so")
        for place, look in enumerate(look for look in free if TITLE.search(look.squashed))
    ]
    names = [look.name for look in rest]
    file = str(path)

    def decide(option: str, what: str, candidates: Sequence[Candidate]) -> Candidate | None:
        question = Question(
            option=option, what=what, file=file, candidates=candidates, known=names, optional=True
        )
        return answers.decide(question)

    title = decide("--title", "title", titles)
    tag = decide("--tags", "tags", sorted(map(_as_tags, tags), key=lambda one: -one.score))
    columns = [look.name for look in free if tag is None or look.name != tag.name]
    entries = []
    if title is not None:
        entries.append(Entry(key="title", value=title.name, why="what people are shown"))
    answers.said += [
        f"no title in {file}: ids are shown; --title names a column, such as {look.name}"
        for look in free[:1]
        if title is None
    ]
    if columns:
        try:
            encoder_id()
        except DataError as error:
            answers.said.append(f"texts of {file} are left out: {error.rule}")
        else:
            why = "encoded as the modality text"
            entries.append(Entry(key="text", value=columns, why=why))
            answers.said.append(f"text: {', '.join(columns)} of {file}, {why}")
    if tag is not None:
        separator = next(look for look in rest if look.name == tag.name).tag_separator or "|"
        entries.append(Entry(key="categories", value=tag.name, why=tag.why))
        if separator != "|":
            entries.append(Entry(key="separator", value=separator))
    used = {tag.name if tag else None, title.name if title else None, *columns}
    if left := [name for name in names if name not in used]:
        answers.said.append(f"not used of {file}: {', '.join(left)}")
    if not any(entry.key in ("text", "categories") for entry in entries):
        return ()
    start = [Entry(key="path", value=path.as_posix()), Entry(key="key", value=key.name, why=key.why)]
    return (*start, *entries, *_at_least(matched, total))


def _as_tags(look: Look) -> Candidate:
    several = any(str(look.tag_separator) in text for text in look.sample)
    return Candidate(
        name=look.name,
        score=0.5 + 0.5 * bool(TAGS.search(look.squashed)) + 0.3 * several,
        why=f"short names that come back, divided by {look.tag_separator!r}",
    )


def _at_least(matched: int, total: int) -> tuple[Entry, ...]:
    if matched >= AT_LEAST * total:
        return ()
    why = "fewer than half of the items are described; all others have no features"
    return (Entry(key="at_least", value=matched * 90 // total / 100, why=why),)


def _of_file(name: str, source: Mapping[str, object], matched: int, total: int, answers: Answers) -> Entry:
    """An entry of ``files``."""
    called = re.sub(r"\W", "_", name, flags=re.ASCII)
    called = called if called.isidentifier() else f"file_{called}"
    called = f"{called}_file" if called in ("text", "genres", "categories") else called
    why = f"{matched:,} of {total:,} items matched"
    answers.said.append(f"features: {called} of {source['path']}, {why}")
    low = {entry.key: entry.value for entry in _at_least(matched, total)}
    return Entry(key=called, value={**source, **low}, why=why)


def _features_in(path: Path, roles: Roles, answers: Answers) -> Iterator[tuple[Entry, int]]:
    """An entry a matrix of the file, and how many items it describes."""
    ids, matrices = _arrays(path)
    for name, rows in matrices.items():
        long = {key: texts for key, (texts, length) in ids.items() if length == rows}
        fitting = {
            key: texts
            for key, texts in long.items()
            if key == answers.given.get("--key") or not _is_of_users(key, texts, path, roles)
        }
        matched = {key: count for key, texts in fitting.items() if (count := matches(roles.items, texts))}
        if not matched and any(matches(roles.users, texts) for texts in long.values()):
            answers.said.append(
                f"not used: {name} of {path} describes users; --key names its ids if they are those of items"
            )
            continue
        if not matched:
            beside = f"a .txt (an id a line) or .npy file beside it, such as {path.stem}_ids.txt"
            where = beside if path.suffix.lower() == ".npy" else "an array of the file"
            raise Place(path, "init").error(
                f"the rows of {name} need the ids of their items, as {where}; none has {rows} ids "
                f"of items, such as {roles.items[0]}"
            )
        key = _ids_of_rows(name, path, matched, len(roles.items), answers)
        source = {"path": path.as_posix(), "key": key}
        if path.suffix.lower() == ".npz":
            source["values"] = name
        read_modality(ModalityFile.model_validate(source), where=f"files.{name}")
        stem = path.stem if len(matrices) == 1 else f"{path.stem}_{name}"
        yield _of_file(stem, source, matched[key], len(roles.items), answers), matched[key]
    if not matrices:
        answers.said.append(f"not used: {path} holds no matrix of features")


def _ids_of_rows(name: str, path: Path, matched: Mapping[str, int], total: int, answers: Answers) -> str:
    """Which array has the ids of a matrix' rows: of several that fit the one whose name says so."""
    candidates = []
    for key, count in matched.items():
        stem = Path(key).stem
        own = re.sub(r"[\W_]*(ids?|keys?|items?)$", "", stem.casefold()) == name.casefold()
        named = is_called(stem, ITEM) or squashed(stem) in ("id", "ids", "key")
        why = f"{count:,} of {total:,} items matched"
        candidates.append(Candidate(name=key, score=count / total + (1.0 if own else 0.5 * named), why=why))
    candidates.sort(key=lambda one: -one.score)
    if len(candidates) == 1:
        return candidates[0].name
    known = list(matched)
    given = {option: key for option, key in answers.given.items() if option != "--key" or key in known}
    question = Question(
        option="--key", what=f"ids of the rows of {name}", file=str(path), candidates=candidates, known=known
    )
    chosen = replace(answers, given=given).decide(question)
    assert chosen is not None
    return chosen.name


def _arrays(path: Path) -> tuple[dict[str, tuple[np.ndarray, int]], dict[str, int]]:
    """The arrays that may hold ids, each with its distinct texts and length; the rows of each matrix."""
    import zipfile

    found: dict[str, np.ndarray] = {}
    ids: dict[str, tuple[np.ndarray, int]] = {}
    if path.suffix.lower() == ".npz":
        with Place(path, "init").reading(), zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    found[member.removesuffix(".npy")] = read_npy_stream(stream, Place(path, "init"))
    else:
        found[path.stem] = map_npy(path, key="init")
        for beside in sorted(path.parent.glob("*.npy")):
            if beside != path and (array := map_npy(beside, key="init")).ndim == 1:
                found[beside.name] = array
        for beside in sorted(path.parent.glob("*.txt")):
            with suppress(OSError, UnicodeDecodeError):  # whatever else lies there
                lines = lines_of(beside.read_bytes().decode("utf-8-sig"))
                ids[beside.name] = (np.unique(np.array(lines, dtype=object)), len(lines))
    for name, array in found.items():
        if array.ndim == 1 and array.dtype.kind in "iufUSO":
            with suppress(DataError):  # it holds something else
                texts = ids_of(array, Place(path, "init", name))
                if len(texts.distinct) == len(texts):
                    ids[name] = (texts.distinct, len(texts))
    return ids, {name: len(array) for name, array in found.items() if array.ndim == 2}

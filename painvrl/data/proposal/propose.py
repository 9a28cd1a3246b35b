"""From files to a data section and a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from painvrl.core.errors import ConfigError, DataError, listing
from painvrl.data.proposal.entries import Entry, plain
from painvrl.data.proposal.interactions import matches, roles_of
from painvrl.data.proposal.items import AT_LEAST, FEATURES, described, keys_in
from painvrl.data.proposal.looks import ITEM, USER, looks_of
from painvrl.data.proposal.protocol import fitted
from painvrl.data.proposal.questions import Answers, Candidate, Question
from painvrl.data.sources.messages import Place, files_in
from painvrl.data.sources.table import TableConfig
from painvrl.data.sources.tabular import SUFFIXES, Table, read_table, resolve


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The sections ``data`` and ``split`` of a configuration, and what the study may be called."""

    name: str
    data: tuple[Entry, ...]
    split: tuple[Entry, ...]


def propose(paths: Sequence[Path], answers: Answers) -> Proposal:
    """Look at files, and say what they are.

    Args:
        paths: the interactions first, then tables and feature files of the items; or folders of them.
        answers: decide what is in doubt, and are told what was found.

    Raises:
        DataError: a file cannot be read or used, or nothing describes the items.
        ConfigError: a question has no answer.
    """
    files, found = _files(paths, answers)
    others = [path for path in files if path not in found]
    first = others[0] if others else _interactions(found, answers)
    rest = [path for path in files if path != first]
    table = read_table(first, key="init")
    # Of a folder, a file that is nothing of ours is passed over; a file that was named must be usable.
    keys = {str(path): keys_in(path) for path in rest if path in others or _readable(path, answers)}
    answers.said += table.notes
    try:
        roles = roles_of(table, keys, answers)
    except ConfigError:
        tables = [path for path in rest if path.suffix.lower() not in FEATURES]
        if (swapped := _swapped(table, tables)) is None:
            raise
        raise Place(first, "init").error(
            "names each item once, so it is the table of items; the interactions come first: "
            f"painvrl init {swapped} {first}"
        ) from None
    sections: list[tuple[Entry, ...]] = []
    modalities: list[Entry] = []
    most = 0
    for path in [path for path in rest if str(path) in keys]:
        try:
            of_file = described(path, roles, answers)
        except DataError as error:
            if path in others:
                raise
            answers.said.append(f"not used: {error}")
            continue
        sections += [of_file.item_table] if of_file.item_table else []
        modalities += [_renamed(one, {other.key for other in modalities}, answers) for one in of_file.files]
        most = max(most, of_file.most)
    answers.settle()
    if not sections and not modalities:
        raise Place(first, "init").error(
            "nothing describes the items, and without features there is nothing to tell invariant from "
            "spurious: name a table of titles, texts or tags, or a feature file, after the interactions "
            "(`painvrl data encode` makes one of texts or images)"
        )
    if len(sections) > 1:
        rule = "a study reads one table of items; put the columns of these into one, or name one of them"
        raise DataError(rule, key="init", value=", ".join(str(plain(one)["path"]) for one in sections))
    data = (Entry(key="kind", value="table"), Entry(key="path", value=first.as_posix()), *roles.entries)
    if sections:
        data += (Entry(key="item_table", value=sections[0]),)
    if modalities:
        data += (Entry(key="files", value=tuple(modalities)),)
    covered = most >= AT_LEAST * len(roles.items)
    further, split = fitted(TableConfig.model_validate(plain(data)), answers, covered=covered)
    stem, folder = first.name.partition(".")[0], first.parent.name
    name = folder if stem in ("interactions", "ratings") and folder not in ("", "data") else stem
    return Proposal(name=name, data=(*data, *further), split=split)


def _renamed(entry: Entry, taken: set[str], answers: Answers) -> Entry:
    """Of another name, where another file has its name already."""
    names = (entry.key, *(f"{entry.key}_{number}" for number in range(2, len(taken) + 3)))
    name = next(one for one in names if one not in taken)
    if name != entry.key:
        answers.said.append(f"the second {entry.key} is called {name}: two files have one name")
    return replace(entry, key=name)


def _files(paths: Sequence[Path], answers: Answers) -> tuple[list[Path], set[Path]]:
    """All files, and those of them that were found in folders."""
    files: list[Path] = []
    found: set[Path] = set()
    for path in paths:
        if not path.expanduser().is_dir():
            resolve(path, key="init")
            files.append(path)
            continue
        inside = [path / name for name in files_in(path) if name.lower().endswith((*SUFFIXES, *FEATURES))]
        if not inside:
            raise Place(path, "init").error(f"no file in it ends in {', '.join((*SUFFIXES, *FEATURES))}")
        left = {one.name for one in path.expanduser().iterdir()} - {one.name for one in inside}
        if any(one.suffix.lower() == ".npy" for one in inside):
            left = {name for name in left if not name.lower().endswith(".txt")}  # ids may lie there
        if left := {name for name in left if not name.startswith(".")}:
            answers.said.append(f"not read of {path}: {listing(sorted(left), 6)}")
        found |= {one for one in inside if one not in files}
        files += [one for one in inside if one not in files]
    return files, found


def _readable(path: Path, answers: Answers) -> bool:
    try:
        keys_in(path)
    except DataError as error:
        answers.said.append(f"not used: {error}")
        return False
    return True


def _swapped(table: Table, others: Sequence[Path]) -> Path | None:
    """The table in which ids come back that ``table`` has once each, if there is one."""
    once = [look.distinct for look in looks_of(table) if look.is_key]
    for path in others:
        again = [look.distinct for look in looks_of(read_table(path, key="init")) if not look.is_key]
        if any(2 * matches(ids, own) >= len(ids) > 0 for ids in again for own in once):
            return path
    return None


def _interactions(files: set[Path], answers: Answers) -> Path:
    """Which of the files of a folder holds the interactions."""
    candidates = []
    tables = [path for path in sorted(files) if path.suffix.lower() not in FEATURES]
    for path in tables:
        try:
            table = read_table(path, key="init")
        except DataError:
            continue
        looks = [look for look in looks_of(table) if not look.is_key]
        users, items = ([look for look in looks if look.is_called(words)] for words in (USER, ITEM))
        if users and items:
            why = f"its columns {users[0].name} and {items[0].name} repeat, {len(table):,} rows"
            candidates.append((-len(table), Candidate(name=str(path), score=1.0, why=why)))
    question = Question(
        option="INTERACTIONS",
        what="table of interactions",
        file=listing([path.name for path in tables]) or "the folder",
        candidates=[one for _, one in sorted(candidates, key=lambda one: one[0])],  # the longest one first
        known=[str(path) for path in tables],
    )
    chosen = answers.decide(question)
    answers.settle()
    assert chosen is not None
    return Path(chosen.name)

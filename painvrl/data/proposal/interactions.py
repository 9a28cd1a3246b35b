"""Which columns of a table of interactions are users, items, times and ratings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from painvrl.core.errors import ConfigError
from painvrl.data.proposal.entries import Entry
from painvrl.data.proposal.looks import ITEM, TIME, USER, Look, looks_of, require_header
from painvrl.data.proposal.questions import Answers, Candidate, Question
from painvrl.data.sources.columns import DATE
from painvrl.data.sources.tabular import Table
from painvrl.data.sources.texts import find

_LIKED = 0.7
"""Of the highest rating, from which on a row counts as interest: 3.5 of 5 stars."""
_MANY = 20
"""Different values, from which on a column without a telling name may be that of the users."""


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The columns, as entries of ``data``, and the distinct ids of users and items."""

    entries: tuple[Entry, ...]
    users: np.ndarray
    items: np.ndarray
    user: str
    item: str


def roles_of(table: Table, keys: Mapping[str, Mapping[str, np.ndarray]], answers: Answers) -> Roles:
    """Decide what each column of ``table`` is.

    Args:
        table: a row an interaction.
        keys: by file, the columns of the other files that name each row once, by name: what item ids may be
            found in.
        answers: decide what is in doubt.

    Raises:
        ConfigError: an answer does not fit, there is none, or the column that it should be has empty rows.
        DataError: the columns have no names.
    """
    looks = {look.name: look for look in looks_of(table)}
    file = str(table.file)
    require_header(looks.values(), file)
    ids = [look for look in looks.values() if _may_be_ids(look, answers)]
    if answers.ask is None:
        _need_two(list(looks.values()), ids, answers, file)
    item = answers.decide(
        Question(
            option="--item",
            what="item",
            file=file,
            candidates=_best(_as_item(look, keys) for look in ids),
            known=table.names,
        )
    )
    assert item is not None
    if "--item" not in answers.given:
        _refuse_for_gaps("--item", ITEM, looks[item.name], looks.values(), file)
        _refuse_another(looks[item.name], ids, keys, file)
    others = [look for look in ids if look.name != item.name]
    many = [look for look in others if len(look.distinct) >= _MANY]
    users = [_as_user(look, alone=many == [look]) for look in others]
    user = answers.decide(
        Question(option="--user", what="user", file=file, candidates=_best(users), known=table.names)
    )
    assert user is not None
    if "--user" not in answers.given:
        _refuse_for_gaps("--user", USER, looks[user.name], looks.values(), file)
    answers.settle()
    rest = [look for look in looks.values() if look.name not in (user.name, item.name)]
    time = answers.decide(
        Question(
            option="--time",
            what="time",
            file=file,
            candidates=_best(_as_time(look, answers) for look in rest),
            known=table.names,
            optional=True,
        )
    )
    rated = [
        Candidate(name=look.name, score=1.0, why="its name says so, and it holds numbers")
        for look in rest
        if look.is_rating and look.numbers is not None
    ]
    rating = answers.decide(
        Question(
            option="--rating",
            what="rating",
            file=file,
            candidates=rated,
            known=table.names,
            optional=True,
        )
    )
    entries = [Entry(key=key, value=one.name, why=one.why) for key, one in (("user", user), ("item", item))]
    if time is not None:
        entries.append(Entry(key="time", value=time.name, why=time.why))
    if rating is not None:
        entries += _rating(rating, looks[rating.name], answers)
    used = {entry.value for entry in entries}
    answers.said += [
        note for one in (time, rating) if one is not None and (note := looks[one.name].assumed) is not None
    ]
    answers.said += [
        f"{look.name} is not used: {look.foreign}" for look in rest if look.foreign and look.name not in used
    ]
    left = [name for name in table.names if name not in used and not looks[name].foreign]
    if left:
        answers.said.append(f"not used of {file}: {', '.join(left)}")
    if rating is None and "--rating" not in answers.given:
        answers.said += [
            f"all rows count alike; {name} holds numbers from {scale}: if they are ratings, --rating {name}"
            for name in left
            if (scale := looks[name].scale) is not None
        ]
    return Roles(
        entries=tuple(entries),
        users=looks[user.name].distinct,
        items=looks[item.name].distinct,
        user=user.name,
        item=item.name,
    )


def _need_two(looks: Sequence[Look], ids: Sequence[Look], answers: Answers, file: str) -> None:
    """Refuse a table in which users and items cannot be two columns."""
    named = {name for option in ("--user", "--item") if (name := answers.given.get(option))}
    known = {look.name for look in looks}
    if len({look.name for look in ids} | named) >= 2 or not named <= known:
        return  # a name that is none of the file's is said where it is asked for
    why = [f"{look.name} has {look.missing:,} rows without a value" for look in looks if look.missing]
    why += [f"{look.name} has no value twice" for look in looks if look.is_key]
    raise ConfigError(
        "needs a column of users and one of items, in which ids come back. "
        f"{'One' if ids else 'None'} of its columns may be that{': ' if why else ''}{'; '.join(why)}. "
        "--user and --item name them",
        file=file,
        key="init",
        value=", ".join(look.name for look in looks),
    )


def _may_be_ids(look: Look, answers: Answers) -> bool:
    """Whether every row has a value, values come back, and they are no times or ratings."""
    if (
        look.texts is None
        or look.missing
        or look.is_key
        or look.foreign
        or look.has_fractions
        or look.name == answers.given.get("--rating")
    ):
        return False
    if look.is_called(USER) or look.is_called(ITEM):
        return True
    is_time = look.is_called(TIME) or (_begins_like_a_date(look) and look.not_a_time is None)
    return not is_time and not look.is_rating


def _refuse_for_gaps(
    option: str, words: re.Pattern[str], taken: Look, looks: Iterable[Look], file: str
) -> None:
    """Refuse to take another column than the one that is called like ids, because that has empty rows."""
    if taken.is_called(words):
        return
    for look in looks:
        if not look.is_called_ids_of(words) or look.texts is None or not look.missing:
            continue
        if len(look.distinct) < len(look.texts) - look.missing:  # its values come back, as ids do
            first = int(look.texts.missing.argmax()) + 1
            raise ConfigError(
                f"{look.name} is called like what {taken.name} would be taken for, but has no value in "
                f"{look.missing:,} of {len(look.texts):,} rows, the first is row {first}; mend them, or let "
                f"{option} name the column",
                file=file,
                key="init",
            )


def _refuse_another(
    taken: Look, ids: Sequence[Look], keys: Mapping[str, Mapping[str, np.ndarray]], file: str
) -> None:
    """Refuse to join by ``taken`` where a column of one name in both files was to join them, but cannot."""
    if taken.is_called(ITEM):
        return
    for look in ids:
        for other, columns in keys.items():
            known = columns.get(look.name)
            if look.name == taken.name or known is None or matches(look.distinct, known):
                continue
            raise ConfigError(
                f"{look.name} is in {file} and in {other}, but they have no id of it in common "
                f"({look.distinct[0]}, ... and {known[0]}, ...), and {taken.name} would be taken as the "
                "items; mend the ids, or let --item name the column",
                key="init",
            )


def _as_item(look: Look, keys: Mapping[str, Mapping[str, np.ndarray]]) -> Candidate:
    named, other = look.is_called(ITEM), look.is_called(USER)
    total, matched, where = len(look.distinct), 0, ""
    for file, columns in keys.items():
        for key in columns.values():
            if (count := matches(look.distinct, key)) > matched:
                matched, where = count, file
    why = [f"{matched:,} of its {total:,} ids are in {where}"] if matched else []
    why += ["its name says so"] if named else ["its name says user"] if other else []
    return Candidate(
        name=look.name,
        score=named - other + matched / total,
        why="; ".join(why) or f"{total:,} different ids",
    )


def _as_user(look: Look, *, alone: bool) -> Candidate:
    named = look.is_called(USER)
    why = (
        "its name says so; "
        if named
        else "the only other column of many values that come back; "
        if alone
        else ""
    )
    return Candidate(
        name=look.name,
        score=float(named or alone) - look.is_called(ITEM),
        why=f"{why}{len(look.distinct):,} different ids",
    )


def _as_time(look: Look, answers: Answers) -> Candidate | None:
    named = look.is_called(TIME)
    if not named and (look.texts is None or not _begins_like_a_date(look)):
        return None
    if look.not_a_time is None:
        why = "its name says so, and its values are times" if named else "its values are times"
        return Candidate(name=look.name, score=1.0 if named else 0.6, why=why)
    if named:
        answers.said.append(f"{look.name} is called like a time, but {look.not_a_time}")
    return None


def _begins_like_a_date(look: Look) -> bool:
    first = look.sample[0] if look.sample else ""
    if DATE.fullmatch(first.strip()):
        return True
    return (first[:4].isdecimal() and first[4:5] == "-") or (first.isdecimal() and len(first) >= 9)


def _rating(rating: Candidate, look: Look, answers: Answers) -> list[Entry]:
    """The column, and from which value on a row counts."""
    entries = [Entry(key="rating", value=rating.name, why=rating.why)]
    values = look.numbers
    if values is None or values.min() < 0 or not 0 < values.max() <= 100:
        answers.said.append(f"{rating.name} is on no scale from 0 to at most 100: all its rows count alike")
        return entries
    least = round(_LIKED * float(values.max()), 2)
    kept = int((values >= least).sum())
    why = f"lower ratings are no interest: {kept:,} of {len(values):,} rows are kept"
    answers.said.append(f"min_rating {least:g}: {why}")
    return [*entries, Entry(key="min_rating", value=least, why=why)]


def _best(candidates: Iterable[Candidate | None]) -> list[Candidate]:
    """The best one first; of equal ones the first of the file."""
    return sorted((one for one in candidates if one is not None), key=lambda one: -one.score)


def matches(wanted: np.ndarray, known: np.ndarray) -> int:
    """How many of ``wanted`` (distinct texts) are among ``known``."""
    return int((find(wanted, known) >= 0).sum())

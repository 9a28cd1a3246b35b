"""The exception tree.

PainvrlError
├── UserError            what the user can mend: one line, exit code 2, never a traceback
│   ├── ConfigError      a YAML file, a key in it, or an option of the command line
│   │   └── ConfigErrors several of them, all of one file
│   ├── DataError        a data file or its content
│   ├── StudyError       a study, trial or run that is missing or does not fit
│   │   ├── SeveralStudies  none was named, and there are several
│   │   └── Differs      a study that was run otherwise, with a line for each difference
│   └── PlaceError       a disk, a folder or an output that is full, read-only or gone; try again later
├── NothingFeasible      the study has no trial on a front: exit code 3
├── Regressed            a study's front is worse than the one it was compared with: exit code 4
└── TrialFailure         this configuration cannot be trained; a study records it and continues
    ├── Diverged         a loss or a parameter is no longer finite
    ├── OutOfTime        it takes longer than a trial may
    └── EmptyEnvironment an environment kept too few interactions to train on
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Self

from painvrl.core.shown import redacted, visible, visible_lines

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "name a place that is not read-only",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close files of other programs",
    errno.EIO: "check the disk",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.ENOTDIR: "name another place",
    errno.EISDIR: "name a file",
    errno.ENOTEMPTY: "name another place",
    errno.ESTALE: "see to it that its server is there",
    errno.EBUSY: "wait for whoever uses it",
}
"""What a user can do about an error of the operating system that no program is to blame for."""


class PainvrlError(Exception):
    """The root of every error that painvrl raises on purpose.

    Its text is one line without secrets, and without characters that steer a terminal.
    """

    _visible = staticmethod(visible)

    def __str__(self) -> str:
        return self._visible(redacted(super().__str__()))


class UserError(PainvrlError):
    """An error that the user can mend.

    The message says where (file, line and column, key), the rule and the value found:
    ``studies/a.yaml:12:5: config.mask.sparsity: must be at most 1 (found 1.5)``.
    """

    def __init__(
        self,
        rule: str,
        *,
        file: object = None,
        key: str | None = None,
        value: object = None,
        at: tuple[int, int] | None = None,
    ) -> None:
        self.rule = rule
        self.file: str | None = None if file is None else str(file)
        self.key = key
        self.value = value
        self.at = at
        where = ":".join(str(part) for part in (self.file, *(at or ())) if part is not None)
        place = "".join(f"{part}: " for part in (where, key) if part)
        found = "" if value is None else f" (found {value!r})"
        super().__init__(f"{place}{rule}{found}")


class ConfigError(UserError):
    """A configuration file, a key in it, or a command-line option is wrong."""

    @property
    def each(self) -> tuple[ConfigError, ...]:
        """All mistakes, this one first."""
        return (self,)


class ConfigErrors(ConfigError):
    """Several mistakes of one file, a line each; its own attributes are those of the first."""

    def __init__(self, mistakes: Sequence[ConfigError]) -> None:
        first = mistakes[0]
        super().__init__(first.rule, file=first.file, key=first.key, value=first.value, at=first.at)
        self._each = tuple(mistakes)

    @property
    def each(self) -> tuple[ConfigError, ...]:
        """All mistakes."""
        return self._each

    def __str__(self) -> str:
        return "\n".join(map(str, self._each))


class Mistakes:
    """Collects mistakes, so that a user hears of all at once."""

    MOST: Final = 50
    """Of more, the first so many are said."""

    def __init__(self) -> None:
        self.found: list[ConfigError] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Around one check: what it finds wrong is kept, and the next check follows."""
        try:
            yield
        except ConfigError as error:
            self.found += error.each
        if len(self.found) >= self.MOST:  # no one reads more, and to find them all can take any time
            raise self.whole()

    def raise_all(self) -> None:
        """Raise what was found.

        Raises:
            ConfigError: something was; :class:`ConfigErrors` if there is more than one.
        """
        if self.found:
            raise self.whole()

    def whole(self) -> ConfigError:
        """What was found, as one error."""
        if len(self.found) > self.MOST:
            more = f"has more mistakes than the first {self.MOST}, which are above"
            self.found[self.MOST :] = [ConfigError(more, file=self.found[0].file)]
        return self.found[0] if len(self.found) == 1 else ConfigErrors(self.found)


class DataError(UserError):
    """A data file is missing, unreadable, or its content breaks a rule."""


class StudyError(UserError):
    """A study, a trial or a run does not exist or does not fit the request."""


class SeveralStudies(StudyError):
    """No study was named, and there are several; ``first`` is one of them, for an example."""

    first: str = ""


class Differs(StudyError):
    """A study was run otherwise; a line for each difference."""

    _visible = staticmethod(visible_lines)


class PlaceError(UserError):
    """A disk, a folder, a database or an output that cannot be written or read as things stand.

    No trial is to blame for it, and none is counted as failed. The same command continues once it can.
    """

    @classmethod
    def of(cls, error: OSError, what: str, *, file: object = None) -> Self:
        """What the operating system said of ``what``, such as "the report cannot be written"."""
        remedy = _REMEDIES.get(error.errno or 0)
        advice = "" if remedy is None else f"; {remedy}, then call again"
        return cls(f"{what}: {error.strerror or error}{advice}", file=file or error.filename)


def is_of_the_place(error: BaseException) -> bool:
    """Whether an error of the operating system says that a disk or a folder refuses, whatever the program."""
    return isinstance(error, OSError) and error.errno in _REMEDIES


class NothingFeasible(PainvrlError):
    """No complete trial of the study keeps to its constraints, so there is no front."""


class Regressed(PainvrlError):
    """A study's front is worse than the one it was compared with: an answer, for those who asked for it."""


class TrialFailure(PainvrlError):
    """A configuration that cannot be trained. ``reason`` is a short machine-readable word."""

    reason = "failed"


class Diverged(TrialFailure):
    """A loss or a parameter stopped being finite."""

    reason = "diverged"


class OutOfTime(TrialFailure):
    """A training takes longer than the study gives a trial."""

    reason = "out_of_time"


class EmptyEnvironment(TrialFailure):
    """An environment kept fewer interactions than training on it needs."""

    reason = "empty_environment"


def listing(names: Sequence[object], limit: int = 12) -> str:
    """The first ``limit`` names, for a message."""
    shown = ", ".join(str(name) or "(no name)" for name in list(names)[:limit])
    more = len(names) - limit
    return f"{shown} and {more} more" if more > 0 else shown

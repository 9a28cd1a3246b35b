"""The exception tree.

PainvrlError
├── UserError            what the user can mend: one line, exit code 2, never a traceback
│   ├── ConfigError      a YAML file, a key in it, or an option of the command line
│   ├── DataError        a data file or its content
│   └── StudyError       a study, trial or run that is missing or does not fit
├── NothingFeasible      the study has no trial on a front: exit code 3
├── Regressed            a study's front is worse than the one it was compared with: exit code 4
└── TrialFailure         this configuration cannot be trained; a study records it and goes on
    ├── Diverged         a loss or a parameter is no longer finite
    ├── OutOfTime        it takes longer than a trial may
    └── EmptyEnvironment an environment kept too few interactions to train on
"""

from __future__ import annotations


class PainvrlError(Exception):
    """The root of every error that painvrl raises on purpose."""


class UserError(PainvrlError):
    """An error that the user can mend.

    The message says where (file and key), the rule and the value found:
    ``studies/a.yaml: config.mask.sparsity: must be at most 1 (found 1.5)``.
    """

    exit_code = 2

    def __init__(
        self, rule: str, *, file: object = None, key: str | None = None, value: object = None
    ) -> None:
        self.rule = rule
        self.file = None if file is None else str(file)
        self.key = key
        self.value = value
        place = "".join(f"{part}: " for part in (self.file, key) if part)
        found = "" if value is None else f" (found {value!r})"
        super().__init__(f"{place}{rule}{found}")


class ConfigError(UserError):
    """A configuration file, a key in it, or a command-line option is wrong."""


class DataError(UserError):
    """A data file is missing, unreadable, or its content breaks a rule."""


class StudyError(UserError):
    """A study, a trial or a run does not exist or does not fit the request."""


class NothingFeasible(PainvrlError):
    """No complete trial of the study keeps to its constraints, so there is no front."""

    exit_code = 3


class Regressed(PainvrlError):
    """A study's front is worse than the one it was compared with: an answer, for those who asked for it."""

    exit_code = 4


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

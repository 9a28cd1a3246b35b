"""Calling MLflow: no telemetry, no chatter, no one else's runs, and its errors as one line."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy

from painvrl.core.errors import PlaceError, StudyError
from painvrl.core.packages import not_installed
from painvrl.core.shown import conceal, redacted
from painvrl.study.store.database import advice_on, sqlite_file
from painvrl.study.tracking.port import IGNORED

EXPERIMENT = "painvrl"


@contextmanager
def mlflow_calls(uri: str) -> Iterator[None]:
    """Around every use of MLflow: no telemetry, no chatter, no one else's runs, its errors as one line."""
    conceal(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # With a server it would print a link to stdout, among results that programs read.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    hidden = {name: os.environ.pop(name) for name in IGNORED if name in os.environ}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's own dependencies deprecate what it uses
            from mlflow.exceptions import MlflowException
            from mlflow.tracking._tracking_service import utils

            # By run, not by store: it would send what is logged in a copy of a workspace to the original.
            utils._artifact_repos_cache.clear()  # noqa: SLF001
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.CRITICAL)  # errors come as exceptions, too
            try:
                yield
            except (MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
                said = redacted(str(getattr(error.__cause__ or error, "orig", error)))  # before it is cut
                cause = said.partition("\n")[0][:300]
                raise _refusal(uri, advice_on(cause)) from error
            except OSError as error:
                file = error.filename2 or error.filename or _public(uri)
                place = PlaceError.of(error, "MLflow cannot use it", file=file)
                raise StudyError(place.rule, file=place.file) from error
            except ImportError as error:
                raise _refusal(uri, not_installed(error)) from error
    finally:
        os.environ.update(hidden)


def _refusal(uri: str, cause: str) -> StudyError:
    return StudyError(f"MLflow does not answer as it should: {cause}", file=_public(uri))


def _public(uri: str) -> str:
    """The URI's file, or the URI."""
    file = sqlite_file(uri) if uri.startswith("sqlite") else None
    return uri if file is None else str(file)

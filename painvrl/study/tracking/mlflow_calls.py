"""Calling MLflow: no telemetry, no chatter, no one else's runs, and its errors as one line."""

from __future__ import annotations

import logging
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy

from painvrl.core.errors import PlaceError, StudyError
from painvrl.core.packages import not_installed
from painvrl.core.shown import conceal, redacted
from painvrl.study.store.database import advice_on, sqlite_file
from painvrl.study.tracking.port import IGNORED, TrackerAway, is_server

EXPERIMENT = "painvrl"

KNOCK_SECONDS = 5.0
"""How long a server is waited for that is only asked whether it is there."""

_PORTS = {"postgresql": 5432, "mysql": 3306}
"""Where servers of databases are, if a URL names no port."""

_SERVER = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""Of a server; MLflow's own values let a study stand still for minutes. The environment wins."""


@contextmanager
def mlflow_calls(uri: str) -> Iterator[None]:
    """Around every use of MLflow: no telemetry, no chatter, no one else's runs, its errors as one line."""
    conceal(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # With a server it would print a link to stdout, among results that programs read.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for variable, value in _SERVER.items():
        os.environ.setdefault(variable, value)
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
                said = redacted(
                    str(getattr(error.__cause__ or error, "orig", error))[:2000]
                )  # before it is cut
                cause = said.partition("\n")[0][:300]
                raise _refusal(uri, advice_on(cause), away=_is_away(uri, error)) from error
            except OSError as error:
                if _is_away(uri, error):  # of a server's artifacts
                    raise _refusal(uri, str(error).partition("\n")[0][:300], away=True) from error
                file = error.filename2 or error.filename or _public(uri)
                place = PlaceError.of(error, "MLflow cannot use it", file=file)
                raise StudyError(place.rule, file=place.file) from error
            except ImportError as error:
                raise _refusal(uri, not_installed(error)) from error
    finally:
        os.environ.update(hidden)


def knock(uri: str) -> None:
    """See within seconds whether a server is there, MLflow's or a database's; of files nothing is asked.

    Raises:
        TrackerAway: it is not.
    """
    if not is_server(uri):
        _knock_at_database(uri)
        return
    answers: list[int] = []
    with mlflow_calls(uri):
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        def ask() -> None:
            with suppress(Exception):  # whatever it is, there was no answer
                host = get_default_host_creds(uri)
                asked = http_request(host, "/version", "GET", max_retries=0, timeout=KNOCK_SECONDS)
                answers.append(asked.status_code)

        # A thread: no timeout of a request covers looking up the name of its host.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(KNOCK_SECONDS + 1)
    if not answers or answers[0] >= 500:
        cause = f"it answers with status {answers[0]}" if answers else "nobody answers"
        raise TrackerAway(f"MLflow's server cannot be reached: {cause}", file=_public(uri))


def _knock_at_database(uri: str) -> None:
    """MLflow tries for minutes."""
    with suppress(sqlalchemy.exc.ArgumentError, ValueError):  # MLflow says what is wrong with the URI
        at = sqlalchemy.make_url(uri)
        port = at.port or _PORTS.get(at.get_backend_name())
        if not at.host or port is None or {"host", "unix_socket"} & at.query.keys():
            return
        try:
            socket.create_connection((at.host, port), timeout=KNOCK_SECONDS).close()
        except OSError as error:
            rule = f"MLflow's database cannot be reached: {error.strerror or error}"
            raise TrackerAway(rule, file=_public(uri)) from None


def _is_away(uri: str, error: Exception) -> bool:
    """Whether the store is out of reach, rather than refusing what it was told."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return is_server(uri) and (status >= 500 or status == 429)
    if isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError):
        return not uri.startswith("sqlite")
    answer = getattr(error, "response", None)  # of an error of the library requests
    return hasattr(error, "request") and (answer is None or answer.status_code >= 500)


def _refusal(uri: str, cause: str, *, away: bool = False) -> StudyError:
    kind = TrackerAway if away else StudyError
    return kind(f"MLflow does not answer as it should: {cause}", file=_public(uri))


def _public(uri: str) -> str:
    """The URI's file, or the URI."""
    file = sqlite_file(uri) if uri.startswith("sqlite") else None
    return uri if file is None else str(file)

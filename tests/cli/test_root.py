"""Every error becomes one line and its exit code."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from painvrl.cli.root import Guarded
from painvrl.core.errors import ConfigError, NothingFeasible, PainvrlError


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            ConfigError("must be even", file="a.yaml", key="x", value=3),
            2,
            "a.yaml: x: must be even (found 3)",
        ),
        (NothingFeasible("no complete trial"), 3, "no complete trial"),
        (PainvrlError("the server did not start"), 1, "the server did not start"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("broken"), 1, "this is a bug of painvrl"),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(error: BaseException, code: int, said: str) -> None:
    app = typer.Typer(cls=Guarded, pretty_exceptions_enable=False)

    @app.callback()
    def _root() -> None: ...

    @app.command()
    def fail() -> None:
        raise error

    done = CliRunner().invoke(app, ["fail"])
    assert done.exit_code == code
    assert said in done.stderr
    assert "Traceback" not in done.output

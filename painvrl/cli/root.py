"""The root command, its exit codes, and where every error becomes one line."""

from __future__ import annotations

import difflib
import logging
import os
import re
import shlex
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from typing import Annotated, Any, NoReturn, cast

import typer
from typer.core import TyperGroup

import painvrl
from painvrl.cli import (
    baselines,
    data,
    export,
    init,
    installation,
    recommend,
    serve,
    study,
    train,
    ui,
    workspace,
)
from painvrl.cli.output import ReaderLeft, guard_output
from painvrl.core import interrupts
from painvrl.core.errors import (
    ConfigError,
    NothingFeasible,
    PainvrlError,
    PlaceError,
    Regressed,
    SeveralStudies,
    UserError,
    is_of_the_place,
)
from painvrl.core.shown import redacted

_logger = logging.getLogger("painvrl")

INTERNAL_ERROR, USAGE, NOTHING_FEASIBLE, REGRESSED, INTERRUPTED, UNREAD = 1, 2, 3, 4, 130, 141

EPILOG = (
    "Example: painvrl study run studies/movielens.yaml. "
    "Exit codes: 0 done; 1 a bug of painvrl or a broken installation; 2 a mistake in a file or an option, or "
    "a disk, database or output that is full, locked or not writable; 3 the study has no complete trial "
    "within its constraints; 4 the front regressed (`study compare`); 130 interrupted (the same command "
    "continues a study, a confirmation or a long training); 141 the reader of the output has left, as "
    "`| head` does."
)


_TYPED = "painvrl.typed"
"""Where the words behind ``painvrl`` are kept."""


class Guarded(TyperGroup):
    """Turns exceptions of every command into one line on stderr and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``--verbose`` may stand anywhere."""
        own = args[: args.index("--")] if "--" in args else args
        verbose = [word for word in own if word in {"-v", "--verbose"}]
        others = [word for word in own if word not in {"-v", "--verbose"}]
        ctx.meta[_TYPED] = [*others, *args[len(own) :]]
        try:
            return super().parse_args(ctx, [*verbose, *others, *args[len(own) :]])
        except typer.TyperException as error:
            if error.message.startswith("No such option") and not getattr(error, "possibilities", None):
                error.message += ". Options of a command stand behind it"
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Say of a command that stands alone which group it belongs to."""
        name = args[0]
        for group, command in self.commands.items():
            if name not in self.commands and name in getattr(command, "commands", {}):
                ctx.fail(f"No such command {name!r}. Did you mean '{group} {name}'?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; see :data:`EPILOG` for the exit codes."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except typer.TyperException as error:
            error.message = _with_what_is_meant(error.message, getattr(error, "ctx", None))
            raise
        except ReaderLeft:  # who left needs no message
            raise typer.Exit(UNREAD) from None
        except SeveralStudies as several:
            _complain(f"{several}, such as `{_naming(several.first, ctx.meta[_TYPED])}`")
            raise typer.Exit(USAGE) from None
        except PainvrlError as error:
            _logger.debug("the error was raised here:", exc_info=error)
            for mistake in error.each if isinstance(error, ConfigError) else (error,):
                _complain(str(mistake), kind="painvrl" if isinstance(error, Regressed) else "error")
            codes = {UserError: USAGE, NothingFeasible: NOTHING_FEASIBLE, Regressed: REGRESSED}
            known = (code for kind, code in codes.items() if isinstance(error, kind))
            raise typer.Exit(next(known, INTERNAL_ERROR)) from None
        except KeyboardInterrupt as interruption:  # with a text where a command can go on
            _complain(
                f"interrupted; {str(interruption) or 'the same command starts from the beginning'}",
                kind="\npainvrl",
            )
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:  # noqa: BLE001 (the last stop: a user gets a line, the log gets the rest)
            if (said := _of_the_machine(error)) is not None:
                _complain(said)
                raise typer.Exit(USAGE) from None
            _complain(f"{type(error).__name__}: {error}".splitlines()[0])
            _complain(f"this is a bug of painvrl; the details are in {_log(error)}", kind="note")
            raise typer.Exit(INTERNAL_ERROR) from None


def _naming(study: str, words: list[str]) -> str:
    """The command that was typed, and the study with it."""
    place, named = (2, [study]) if words[0] == "study" else (1, ["--study", study])
    return redacted(shlex.join(["painvrl", *words[:place], *named, *words[place:]]))


def _with_what_is_meant(message: str, ctx: Any) -> str:
    """What Typer says of words that it does not know, with what may be meant, and not the kind of an
    exception.
    """
    message = message.removeprefix("Value error, ")
    if found := re.fullmatch(r"'(.*?)' is not one of (.*)\.", message):
        near = difflib.get_close_matches(found[1], re.findall("'(.*?)'", found[2]), n=1)
        message += f" Did you mean '{near[0]}'?" if near else ""
    if found := re.fullmatch(r"Got unexpected extra argument\S* \((.*)\)", message):
        word = found[1].split()[0]
        known = {name for option in ctx.command.params for name in option.opts}
        meant = [option for option in (f"--{word}", "--user") if option in known]
        message += (
            f". Did you mean '{meant[0]}{'' if meant[0] == f'--{word}' else f' {word}'}'?" if meant else ""
        )
    return message


app: typer.Typer = typer.Typer(
    cls=Guarded,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: no import of rich, and the same text in a pipe
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="init")(init.init)
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")
app.add_typer(workspace.app, name="workspace")
app.command(name="train")(train.train)
app.command(name="baselines")(baselines.baselines)
app.command(name="recommend")(recommend.recommend)
app.command(name="export")(export.export)
app.command(name="serve")(serve.serve)
app.command(name="ui")(ui.ui)
app.command(name="doctor")(installation.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"painvrl {painvrl.__version__}")
        raise typer.Exit


@app.callback()
def painvrl_command(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001 (its callback prints it)
        bool,
        typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Say every step with its time on stderr; may stand behind a command, too."
        ),
    ] = False,
) -> None:
    """Map the trade-off between in- and out-of-distribution recommendation quality, and train from it."""
    _logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    if verbose:
        said = logging.StreamHandler(sys.stderr)
        said.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
        _logger.addHandler(said)
        ctx.call_on_close(lambda: _logger.removeHandler(said))


def main() -> NoReturn:
    """The entry point of the ``painvrl`` script."""
    # Whoever ends a process from outside (kill, a container's stop, a cluster's scheduler, a lost connection)
    # wants what Ctrl-C wants, and no trial is to blame for it.
    interrupts.listen()
    guard_output()
    try:
        app(prog_name="painvrl")
    except ReaderLeft:
        sys.exit(UNREAD)
    except PlaceError as error:  # help that cannot be printed
        _complain(str(error))
        sys.exit(USAGE)
    except KeyboardInterrupt:  # between the commands' own guard and the interpreter's end
        sys.exit(INTERRUPTED)
    sys.exit(0)


def _complain(text: str, kind: str = "error") -> None:
    with suppress(OSError, PlaceError):  # there is no one left to tell
        typer.echo(f"{kind}: {text}", err=True)


def _of_the_machine(error: Exception) -> str | None:
    """What to say of an error that comes of the machine and not of the program; ``None`` of a bug."""
    if is_of_the_place(error):
        return str(PlaceError.of(cast("OSError", error), "cannot be used"))
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("painvrl"):
        from painvrl.core.packages import not_installed

        return not_installed(error)
    if isinstance(error, MemoryError) or ("torch" in sys.modules and _is_out_of_memory(error)):
        return "the memory of the machine or the device is full; try smaller settings or another --device"
    return None


def _is_out_of_memory(error: Exception) -> bool:
    from painvrl.core.device import is_out_of_memory

    return is_out_of_memory(error)


def _log(error: BaseException) -> str:
    """Write the traceback to a new file in the temporary folder and give its path."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    descriptor, path = tempfile.mkstemp(prefix=f"painvrl-{stamp}-", suffix=".log")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        said = "".join(traceback.format_exception(error))
        file.write(redacted(f"painvrl {painvrl.__version__}, {' '.join(sys.argv)}\n{said}"))
    return path

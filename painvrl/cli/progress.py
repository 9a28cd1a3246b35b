"""Progress of studies and runs: lines on stdout, the current stage on stderr and only on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.status import Status

from painvrl.cli.render import data_warnings, print_split
from painvrl.core.observer import GOES_ON
from painvrl.core.tables import number
from painvrl.engine.events import Progress, StudyStarted, TrialFinished, TrialStarted
from painvrl.engine.outcomes import Completed, Failed, Pruned


class Spinner:
    """The current stage, turning at the bottom of a terminal; nothing where there is none (``None``)."""

    def __init__(self, status: Status | None) -> None:
        self._status = status

    def show(self, text: str) -> None:
        """Name the stage."""
        if self._status is not None:
            self._status.update(text)

    def echo(self, *lines: str, err: bool = False) -> None:
        """Print lines."""
        with self.paused():
            for line in lines:
                typer.echo(line, err=err)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide while something is printed: rich sends to stderr what is printed on stdout meanwhile."""
        if self._status is None:
            yield
            return
        self._status.stop()
        yield
        self._status.start()


class StudyLines(Progress):
    """A study's progress: its statistics, then a line a trial.

    ``quiet`` prints nothing. ``err``: on stderr, where the command's results alone are on stdout; without
    the statistics.
    """

    def __init__(self, spinner: Spinner, *, quiet: bool, err: bool = False) -> None:
        self._spinner = spinner
        self._err = err
        self._quiet = quiet
        self._running: dict[int, str] = {}
        self._stages: dict[int, str] = {}

    def study_started(self, event: StudyStarted) -> None:
        """Print the split's statistics and where the study stands; warnings also where it is quiet."""
        with self._spinner.paused():
            data_warnings(event.data.warnings)
        if self._quiet:
            return
        if not self._err:
            with self._spinner.paused():
                print_split(event.data.tables)
        verb = "continues" if event.resumed else "starts"
        self._spinner.echo(
            *(
                f"trial {one} was left behind by a process that died; it is tried again"
                for one in event.reaped
            ),
            *([] if event.taken_over is None else [f"taken over: {event.taken_over}"]),
            f"study {event.study} {verb}: {event.finished} of {event.requested} trials are there"
            if not self._err
            else f"{event.study}: {event.finished} of {event.requested} trials are there",
            err=self._err,
        )

    def trial_started(self, event: TrialStarted) -> None:
        """Show the trial on a terminal."""
        place = event.finished + event.others + 1
        name = event.title or f"trial {event.number}"
        self._running[event.number] = f"{name} ({place} of {event.requested})"
        self._show()

    def trial_stage(self, number: int, stage: str) -> None:
        """Show the stage on a terminal; print where a trial continues that was killed."""
        if stage.startswith(GOES_ON):
            if not self._quiet:
                self._spinner.echo(f"{self._running[number]} {stage}", err=self._err)
            return
        self._stages[number] = stage
        self._show()

    def trial_finished(self, event: TrialFinished) -> None:
        """Print the trial's line."""
        self._running.pop(event.number, None)
        self._stages.pop(event.number, None)
        self._show()
        if not self._quiet:
            done = f"[{event.finished}/{event.requested}]"
            name = event.title or f"trial {event.number:>3}"
            line = f"{done} {name}  {event.seconds:5.1f} s  {_came_to(event)}"
            self._spinner.echo(line, err=self._err)

    def _show(self) -> None:
        """Every trial that is under way, and its stage."""
        self._spinner.show(
            ", ".join(
                title if number not in self._stages else f"{title}: {self._stages[number]}"
                for number, title in self._running.items()
            )
        )


class RunLine:
    """A single run's progress: its stage."""

    def __init__(self, spinner: Spinner) -> None:
        self._spinner = spinner

    def stage(self, name: str) -> None:
        """Show the stage; print where a run continues that was killed."""
        if name.startswith(GOES_ON):
            self._spinner.echo(name, err=True)
        else:
            self._spinner.show(name)

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Curves are for trackers."""


@contextmanager
def study_progress(*, quiet: bool, err: bool = False) -> Iterator[StudyLines]:
    """Progress of a study; ``quiet`` prints nothing but the result, ``err`` nothing on stdout."""
    with _spinner(hidden=quiet) as spinner:
        yield StudyLines(spinner, quiet=quiet, err=err)


@contextmanager
def run_progress() -> Iterator[RunLine]:
    """Progress of a single run."""
    with _spinner() as spinner:
        yield RunLine(spinner)


@contextmanager
def _spinner(*, hidden: bool = False) -> Iterator[Spinner]:
    console = Console(stderr=True, highlight=False, markup=False)
    if hidden or not console.is_terminal:
        yield Spinner(None)
    else:
        with Status("", console=console) as status:
            yield Spinner(status)


def _came_to(event: TrialFinished) -> str:
    if event.values is None:
        failed = event.outcome
        if isinstance(failed, Failed):
            return f"failed ({failed.reason}): {failed.message}"
        return f"pruned at {failed.rung}" if isinstance(failed, Pruned) else "failed"
    values = "  ".join(f"{name} {number(value)}" for name, value in event.values.items())
    if isinstance(event.outcome, Completed) and event.outcome.points and event.front_size:
        return f"{values}  {event.on_front} of {len(event.outcome.points)} points on the front"
    return f"{values}  on the front" if event.on_front else values

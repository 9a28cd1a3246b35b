"""Progress of studies and runs: lines on stdout, the live block on stderr and only on a terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner as Turning
from rich.table import Table
from rich.text import Text

from painvrl.cli.output import as_it_is, whole_words
from painvrl.cli.render import data_warnings, print_split
from painvrl.core.observer import GOES_ON
from painvrl.core.shown import redacted, visible
from painvrl.core.tables import duration, number, numbers
from painvrl.engine.events import Progress, Standing, StudyStarted, TrialFinished, TrialStarted
from painvrl.engine.outcomes import Completed, Failed, Pruned

_logger = logging.getLogger("painvrl")


class Spinner:
    """The live block at the bottom of a terminal; nothing where there is none (``None``).

    A bar with the time left where it is known, what is under way, and what was found so far.
    """

    def __init__(self, console: Console | None) -> None:
        self._turning = Turning("dots")
        self._bar: Table | None = None
        self._found = ""
        self._live = None
        if console is not None:
            self._live = Live(
                console=console,
                get_renderable=self._block,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def show(self, text: str) -> None:
        """Name what is under way."""
        self._turning.update(text=Text(whole_words(visible(redacted(text)), err=True)))
        if self._live is not None:
            self._live.refresh()

    def found(self, finished: int, requested: int, standing: Standing, left: float | None) -> None:
        """Show how far a study is, what it has found, and how many seconds are left."""
        self._bar = Table.grid(padding=(0, 1))
        rest = "" if left is None else f"about {duration(left)} left"
        bar = ProgressBar(total=requested, completed=finished, width=24)
        self._bar.add_row(bar, f"{finished}/{requested}", rest)
        front = f"front {standing.front_size}, hypervolume {number(standing.hypervolume)}; best so far: "
        self._found = front + numbers(standing.best) if standing.best else ""

    def _block(self) -> RenderableType:
        found = [Text(whole_words(self._found, err=True))] if self._found else []
        return Group(*([] if self._bar is None else [self._bar]), self._turning, *found)

    def echo(self, *lines: str, err: bool = False) -> None:
        """Print lines."""
        with self.paused():
            for line in lines:
                typer.echo(whole_words(visible(line), err=err), err=err)

    @property
    def is_live(self) -> bool:
        """Whether there is a terminal that shows it."""
        return self._live is not None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show it meanwhile."""
        assert self._live is not None
        with self._live:
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide while something is printed."""
        if self._live is None or not self._live.is_started:
            yield
            return
        self._live.stop()
        yield
        self._live.start(refresh=True)


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
        self._begun: tuple[float, int] | None = None

    def tell(self, text: str) -> None:
        """Say what happens before the first trial."""
        self._spinner.show(f"{text} ...")
        if not (self._quiet or self._spinner.is_live):
            typer.echo(f"{text} ...", err=self._err)

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
            *([] if event.plan is None else [f"{event.requested} trials in all: {event.plan}"]),
            err=self._err,
        )
        self._begun = time.monotonic(), event.finished
        self._spinner.found(event.finished, event.requested, event.standing, None)

    def trial_started(self, event: TrialStarted) -> None:
        """Show the trial on a terminal."""
        place = event.finished + event.others + 1
        name = event.title or f"trial {event.number}"
        self._running[event.number] = f"{name} ({place} of {event.requested})"
        self._show()

    def trial_stage(self, number: int, stage: str) -> None:
        """Show the stage on a terminal; print where a trial continues that was killed."""
        _logger.debug("trial %d: %s", number, stage)
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
        self._spinner.found(event.finished, event.requested, event.standing, self._left(event))
        self._show()
        if not self._quiet:
            done = f"[{event.finished}/{event.requested}]"
            name = event.title or f"trial {event.number:>3}"
            line = f"{done} {name}  {event.seconds:5.1f} s  {_came_to(event)}"
            self._spinner.echo(line, err=self._err)

    def _left(self, event: TrialFinished) -> float | None:
        """Seconds, if the trials to come take as long as those of this call."""
        start, before = self._begun or (0.0, event.finished)
        done = event.finished - before
        return (time.monotonic() - start) / done * (event.requested - event.finished) if done > 0 else None

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

    def tell(self, text: str) -> None:
        """Say what happens before the first stage."""
        self._spinner.show(f"{text} ...")

    def stage(self, name: str) -> None:
        """Show the stage; print where a run continues that was killed."""
        _logger.debug("%s", name)
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
        lines = StudyLines(spinner, quiet=quiet, err=err)
        with _listening(lines.tell, spinner):
            yield lines


@contextmanager
def run_progress() -> Iterator[RunLine]:
    """Progress of a single run."""
    with _spinner() as spinner:
        line = RunLine(spinner)
        with _listening(line.tell, spinner):
            yield line


@contextmanager
def _spinner(*, hidden: bool = False) -> Iterator[Spinner]:
    console = Console(file=as_it_is(sys.stderr), highlight=False, markup=False)
    if hidden or not console.is_terminal or _logger.isEnabledFor(logging.DEBUG):
        yield Spinner(None)
    else:
        spinner = Spinner(console)
        with spinner.running():
            yield spinner


@contextmanager
def _listening(tell: Callable[[str], None], spinner: Spinner) -> Iterator[None]:
    """What painvrl's modules log is told meanwhile: information (reading, encoding, ...), and notes."""
    handler = _Teller(tell, spinner)
    _logger.addHandler(handler)
    try:
        yield
    finally:
        _logger.removeHandler(handler)


class _Teller(logging.Handler):
    def __init__(self, tell: Callable[[str], None], spinner: Spinner) -> None:
        super().__init__(logging.INFO)
        self._tell, self._spinner = tell, spinner

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            self._tell(record.getMessage())
        elif _logger.handlers == [self]:  # else --verbose says it, too
            self._spinner.echo(record.getMessage(), err=True)


def _came_to(event: TrialFinished) -> str:
    if event.values is None:
        failed = event.outcome
        if isinstance(failed, Failed):
            return f"failed ({failed.reason}): {failed.message}"
        return f"pruned at {failed.rung}" if isinstance(failed, Pruned) else "failed"
    values = "  ".join(f"{name} {number(value)}" for name, value in event.values.items())
    if isinstance(event.outcome, Completed) and event.outcome.points and event.standing.front_size:
        shown = (
            place
            for place, point in enumerate(event.outcome.points)
            if all(point.metrics.get(name) == value for name, value in event.values.items())
        )
        values = next((f"point {event.number}.{place}: {values}" for place in shown), values)
        return f"{values}  {event.standing.on_front} of {len(event.outcome.points)} points on the front"
    return f"{values}  on the front" if event.standing.on_front else values

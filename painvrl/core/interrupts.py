"""Interrupts from outside: Ctrl-C, a scheduler's SIGTERM, a terminal that is gone; raised, and remembered.

Python drops an exception that is raised in a destructor or in a callback of the collector, and goes on. So
what takes long asks :func:`check` between its steps: an interrupt that was lost is raised again there.
"""

from __future__ import annotations

import signal
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

SIGNALS = frozenset(getattr(signal, name) for name in NAMES if hasattr(signal, name))
"""Signals that ask a command to stop; Windows has no SIGHUP."""

_asked = False


def listen() -> None:
    """From here on every one of :data:`SIGNALS` interrupts; what is ignored already stays so, as by nohup."""
    global _asked  # noqa: PLW0603 (signals are the process's)
    _asked = False
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupted)


def check() -> None:
    """Between two steps.

    Raises:
        KeyboardInterrupt: somebody has asked this process to stop.
    """
    if _asked:
        raise KeyboardInterrupt


def _interrupted(number: int, frame: FrameType | None) -> None:
    global _asked  # noqa: PLW0603
    _asked = True
    signal.default_int_handler(number, frame)

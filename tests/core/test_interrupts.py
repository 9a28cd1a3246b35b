from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from painvrl.core import interrupts


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interrupts, "_asked", False)
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", sorted(interrupts.SIGNALS))
def test_every_signal_that_asks_to_stop_interrupts(number: signal.Signals) -> None:
    interrupts.listen()
    interrupts.check()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()
    interrupts.listen()
    interrupts.check()


def test_ctrl_c_a_scheduler_and_a_lost_terminal_are_such_signals() -> None:
    assert {number.name for number in interrupts.SIGNALS} == {"SIGINT", "SIGTERM", "SIGHUP"}


def test_what_is_ignored_stays_so_as_nohup_wants_it() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts.listen()
    os.kill(os.getpid(), signal.SIGHUP)
    interrupts.check()


def test_an_interrupt_that_a_destructor_swallows_is_raised_at_the_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swallowed: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: swallowed.append(raised.exc_type))

    class Interrupted:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    interrupts.listen()
    one = Interrupted()
    del one
    assert swallowed == [KeyboardInterrupt]
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()

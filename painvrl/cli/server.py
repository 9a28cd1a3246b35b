"""Servers of MLflow's that a command starts, waits for and ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from painvrl.core import interrupts
from painvrl.core.errors import ConfigError, PainvrlError

HOST = "127.0.0.1"  # the servers have no passwords: no one but this machine may reach them
START_SECONDS = 180.0


_BAD_PORTS = (
    "1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 "
    "115 117 119 123 135 137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 "
    "556 563 587 601 636 989 990 993 995 1719 1720 1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 "
    "6666 6667 6668 6669 6679 6697 10080 "
)
REFUSED = frozenset(map(int, _BAD_PORTS.split()))
"""Ports of other protocols, which browsers never open (the Fetch standard's bad ports)."""


def need_free(port: int) -> None:
    """Check that a server can listen on ``port``, and that a browser opens it.

    Raises:
        ConfigError: it cannot; the message names a port that is free.
    """
    if port in REFUSED:
        rule = f"belongs to another protocol, so browsers refuse it; --port {free_port()} is free"
        raise ConfigError(rule, key="--port", value=port)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            probe.close()
            raise ConfigError(
                f"cannot be used ({error.strerror}); name another one: --port {free_port()} is free",
                key="--port",
                value=port,
            ) from None


def free_port() -> int:
    """A port that no one listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a process group of its own, and end the whole group however we leave.

    Args:
        command: what to start.
        environment: all its variables.
        folder: where it runs; a folder mlflow/ beside the user stays out of the server's import path.
        log: what it prints.
    """

    def terminated(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 (signal's signature)
        raise SystemExit(128 + signum)

    before = {
        number: signal.signal(number, terminated)
        for number in interrupts.SIGNALS - {signal.SIGINT}
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_until_up(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once the server takes connections.

    Raises:
        PainvrlError: it ended, or does not answer within :data:`START_SECONDS`.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise PainvrlError(
                f"the MLflow server ended with exit code {server.returncode}; its log is {log}"
            )
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.1)
    raise PainvrlError(f"the MLflow server did not answer within {START_SECONDS:.0f} s; its log is {log}")

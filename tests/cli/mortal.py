"""``painvrl``, kept at every save point, of which one is the last: the process is killed right after it.

    MORTAL="LAST SIGNAL" python mortal.py COMMAND...

``LAST`` counts from 1; with 0 no one dies. Worker processes are started from this file, too. Each counts for
itself, and the first to come so far is the only one that dies: it leaves the file ``killed``.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from painvrl.cli import main
from painvrl.run import state

last, name = os.environ["MORTAL"].split()
state.MIN_SECONDS, state.MOST_SHARE = 0.0, float("inf")
save, saves = state.StateFile.save, itertools.count(1)


def save_and_die(self: state.StateFile, make: Callable[[], Mapping[str, Any]]) -> None:
    """Save, and be killed if this was the last one."""
    save(self, make)
    if next(saves) == int(last):
        try:
            Path("killed").touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), getattr(signal, name))


state.StateFile.save = save_and_die  # type: ignore[method-assign]
if __name__ == "__main__":
    main()

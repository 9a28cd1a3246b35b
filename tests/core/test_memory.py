"""A process that may take only so much: each in a process of its own, whose memory is its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses")


def said_by(body: str) -> list[str]:
    code = f"import numpy as np\nfrom painvrl.core.memory import at_most, uncounted\n{body}"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()


ASK = """
def ask(mib):
    try:
        np.ones(mib << 17)
        print("given")
    except MemoryError:
        print("refused")
"""


@pytest.mark.slow
def test_what_is_beyond_the_limit_is_refused_and_afterwards_it_is_not() -> None:
    assert said_by(f"{ASK}\nwith at_most(0.5):\n    ask(100)\n    ask(800)\nask(800)") == [
        *("given", "refused", "given")
    ]


def test_inside_another_limit_the_outer_one_holds() -> None:
    body = f"{ASK}\nwith at_most(0.5):\n    with at_most(4):\n        ask(800)\n    ask(800)"
    assert said_by(body) == ["refused", "refused"]


@pytest.mark.slow
def test_a_mapped_file_passes_no_limit_that_the_process_may_not_raise(tmp_path: object) -> None:
    path = f"{tmp_path}/large.npy"
    body = f"""
import resource
from pathlib import Path
from painvrl.core.memory import _now
from painvrl.data.cache import mapped
np.lib.format.open_memmap({path!r}, mode="w+", shape=(200 << 17,), dtype=float)
hard = _now()[1] + (300 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
with at_most(64):
    print(mapped(Path({path!r})).shape)
print(resource.getrlimit(resource.RLIMIT_DATA) == (hard, hard))
"""
    assert said_by(body) == ["(26214400,)", "True"]


@pytest.mark.slow
def test_a_mapped_file_takes_nothing_of_it(tmp_path: object) -> None:
    path = f"{tmp_path}/large.npy"
    body = f"""{ASK}
np.lib.format.open_memmap({path!r}, mode="w+", shape=(800 << 17,), dtype=float)
from painvrl.data.cache import mapped
from pathlib import Path
with at_most(0.5):
    array = mapped(Path({path!r}))
    print(array.shape)
    ask(50)
    ask(800)
"""
    assert said_by(body) == ["(104857600,)", "given", "refused"]

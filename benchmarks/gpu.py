"""All that a GPU has to be asked, in one command of at most ``--seconds``: ``python -m benchmarks.gpu``.

Each section is a process of its own, so that a crash or a hang of one costs the others nothing, and has its
share of the seconds that are left. What fails, or does not fit, stands in the results with its reason. They
are written after every section. Without CUDA everything runs at a reduced size: that it comes through says
nothing about a GPU.

Nothing is installed: it takes an interpreter with torch, NumPy, pydantic, PyYAML and filelock, and pytest for
the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import print_table
from benchmarks.gpu_data import NotMeasured, Place
from benchmarks.gpu_sections import SECTIONS
from benchmarks.machine import RESULTS, describe, write_results

ROOT = Path(__file__).parent.parent
LONGEST_REASON = 300


def measure(name: str, place: Place, reported: Path) -> None:
    """Take a section's measurements, and tell of each as soon as it is there, a line of JSON each."""
    rows = SECTIONS[name].measurements(place)
    with reported.open("w", encoding="utf-8") as stream:
        print(json.dumps(list(rows)), file=stream, flush=True)
        for row, take in rows.items():
            start = time.perf_counter()
            try:
                found: dict[str, Any] = {"figures": dict(take())}
            except Exception as error:  # noqa: BLE001 (whatever it is, it is this row's result)
                found = {"reason": reason_of(error)}
            found = {"name": row, "took_seconds": time.perf_counter() - start, **found}
            print(json.dumps(found), file=stream, flush=True)


def reason_of(error: Exception) -> str:
    """An error in one line, without the folders of this machine."""
    said = " ".join(str(error).split())
    if isinstance(error, NotMeasured):
        return said
    return f"{type(error).__name__}: {re.sub(r'(/[^/ ]+){2,}/', '', said)}"[:LONGEST_REASON]


def run_section(name: str, device: torch.device, seconds: float) -> dict[str, Any]:
    """A section in a process of its own, ended with all that it has started once its ``seconds`` are over."""
    start = time.perf_counter()
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        reported = Path(folder, "rows")
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu", "--device", device.type, "--section", name, reported],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdout=sys.stderr,  # what libraries say is no result
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lines = reported.read_text(encoding="utf-8").splitlines() if reported.exists() else []
    took = {"budget_seconds": round(seconds, 1), "seconds": round(time.perf_counter() - start, 1)}
    return {**took, **accounted(lines, code, seconds)}


def accounted(lines: list[str], code: int | None, seconds: float) -> dict[str, Any]:
    """What a section reported, and of every measurement that it did not tell of the reason.

    Args:
        lines: the names of all measurements, then one of them a line; the last one may be cut off.
        code: the exit code, ``None`` where time ran out.
        seconds: that it had.
    """
    over = (
        f"the section's {seconds:.0f} s were over" if code is None else f"the process ended with code {code}"
    )
    whole = []
    for line in lines:
        with suppress(json.JSONDecodeError):
            whole.append(json.loads(line))
    if not whole:
        return {"rows": [], "reason": f"{over} before its first measurement"}
    names, *rows = whole
    missing = [{"name": name, "reason": over} for name in names[len(rows) :]]
    return {"rows": rows + missing, **({"reason": over} if missing or code else {})}


def run_sections(device: torch.device, seconds: float, results: Path) -> Mapping[str, Any]:
    """One section after another; the results are written after each."""
    start = time.perf_counter()
    machine = describe()
    sections: dict[str, Any] = {}
    file = "gpu_reduced" if device.type == "cpu" else "gpu"
    measured = {"device": device_of(device), "reduced": device.type == "cpu", "sections": sections}
    try:
        for name, section in SECTIONS.items():
            left = seconds - (time.perf_counter() - start)
            rest = sum(other.share for later, other in SECTIONS.items() if later not in sections)
            print(f"{name}: at most {max(left, 0) * section.share / rest:.0f} s", file=sys.stderr, flush=True)
            if left < 1:
                sections[name] = {"rows": [], "reason": f"the {seconds:g} s of all sections were over"}
            else:
                sections[name] = run_section(name, device, left * section.share / rest)
            write_results(file, measured, folder=results, machine=machine)
    finally:
        show(measured)
    print(f"\n{results / file}.json")
    return measured


def device_of(device: torch.device) -> dict[str, object]:
    """The device as JSON-ready values."""
    if device.type == "cpu":
        return {"name": "CPU"}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "float32_products": torch.get_float32_matmul_precision(),
    }


def show(measured: Mapping[str, Any]) -> None:
    """One table of all sections."""
    rows = []
    for name, section in measured["sections"].items():
        rows += [[name, row["name"], row.get("reason") or shown(row["figures"])] for row in section["rows"]]
        if not section["rows"]:
            rows.append([name, "", section["reason"]])
    size = ", reduced size: no figures of a GPU" if measured["reduced"] else ""
    described = ", ".join(str(value) for value in measured["device"].values())
    print_table(f"On {described}{size}", ["section", "measured", "figures, or why there are none"], rows)


def shown(figures: Mapping[str, object]) -> str:
    """Figures in one cell of a table."""
    texts = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in figures.values())
    return ", ".join(
        f"{name.replace('_', ' ')} {text}" for name, text in zip(figures, texts, strict=True)
    ).replace("|", "/")


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write ``gpu.json``; ``gpu_reduced.json`` without CUDA."""
    parser = argparse.ArgumentParser(description=__doc__)
    best = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cuda", "cpu"], default=best)
    parser.add_argument("--seconds", type=float, default=480, help="at most, of all sections together")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the file")
    parser.add_argument(
        "--section", nargs=2, metavar=("NAME", "FILE"), help="one section, reported to a file"
    )
    asked = parser.parse_args(arguments)
    device = torch.device("cuda", 0) if asked.device == "cuda" else torch.device("cpu")
    if asked.section is not None:
        measure(asked.section[0], Place(device=device, reduced=device.type == "cpu"), Path(asked.section[1]))
        return
    # A process that is reported to end must not leave its section behind on the device.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    run_sections(device, asked.seconds, asked.results)


if __name__ == "__main__":
    main()

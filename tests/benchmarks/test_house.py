"""The figures of the house are those of the house."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_both_stacks_begin_at_the_command_and_the_packages_stand_in_layers() -> None:
    command = [sys.executable, "-m", "benchmarks.house"]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    stacks = re.findall(r"^to (.+): (\d+) frames of (\d+) modules\n((?:  painvrl.+\n)+)", out, re.MULTILINE)
    assert {what for what, *_ in stacks} == {"the training", "MLflow"}
    for _, frames, modules, listed in stacks:
        lines = listed.splitlines()
        assert lines[0] == "  painvrl.cli.root: main"
        assert (len(lines), len({line.partition(":")[0] for line in lines})) == (int(frames), int(modules))
    assert "painvrl.study.tracking." in {what: listed for what, _, _, listed in stacks}["MLflow"]

    packages = {path.parent.name for path in (ROOT / "painvrl").glob("*/__init__.py")}
    layers = {name: int(layer) for layer, name in re.findall(r"^ +(\d+) (\w+):", out, re.MULTILINE)}
    assert packages <= layers.keys()
    assert (layers["core"], layers["cli"]) == (1, max(layers.values()))
    assert f"top level: {len(layers)} modules in {layers['cli']} layers, " in out

"""What can be checked of docs/cluster.md without a cluster: syntax, and that its commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from painvrl.cli import app

PAGE = (Path(__file__).parent.parent / "docs" / "cluster.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def takes(words: list[str]) -> None:
    """The command line takes these words: with ``--help`` it runs nothing, and still refuses others."""
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="painvrl")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("script", blocks("sh"))
def test_scripts_are_shell_and_their_commands_exist(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    commands = re.findall(r"painvrl (study .*)", script.replace("\\\n", " "))
    assert commands
    for command in commands:
        takes(shlex.split(command))


def test_an_option_that_does_not_exist_would_be_found() -> None:
    assert CliRunner().invoke(app, ["study", "work", "x", "--nonsense", "--help"]).exit_code == 2


def test_the_job_for_kubernetes_is_a_work_queue_whose_pods_join_a_study() -> None:
    (text,) = blocks("yml")
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["parallelism"] > 1
    assert "completions" not in job["spec"], "a pod that has finished ends the study for all"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    name, *words = [*container["command"], *container["args"]]
    assert (name, words[:2]) == ("painvrl", ["study", "work"])
    takes(words)

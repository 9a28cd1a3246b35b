"""One command for a GPU: what it measures, and that whatever is missing has its reason."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_sections
from benchmarks.gpu_data import COLD, NotMeasured, Place, drawn
from benchmarks.gpu_sections import SECTIONS, Section, Watch, epoch_seconds
from benchmarks.published_folders import PUBLISHED

ROOT = Path(__file__).parent.parent.parent
CPU = torch.device("cpu")
PLACE = Place(device=CPU, reduced=True)


@pytest.mark.slow
def test_every_measurement_has_figures_or_a_reason_and_the_cpu_agrees_with_itself(tmp_path: Path) -> None:
    # The inner tests are none of this suite's workers: pytest-benchmark would warn, in the one called gw0.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--results", tmp_path],
        cwd=ROOT,
        env=outside,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "gpu_reduced.json").read_text(encoding="utf-8"))
    assert measured["reduced"] is True
    assert {"torch", "cpu"} <= measured["machine"].keys()
    assert list(measured["sections"]) == list(SECTIONS)
    figures: dict[str, Any] = {}
    for name, section in measured["sections"].items():
        assert "reason" not in section, (name, section)
        assert [row["name"] for row in section["rows"]] == list(SECTIONS[name].measurements(PLACE))
        for row in section["rows"]:
            assert ("figures" in row) != ("reason" in row)
            reported = f"| {name} | {row['name']} | "
            assert reported in done.stdout
            if "reason" in row:
                assert row["reason"].startswith("needs CUDA"), row
                assert any(word in row["name"] for word in ("compiled", "streams"))
                continue
            numbers = [value for value in row["figures"].values() if not isinstance(value, str)]
            assert numbers
            assert all(math.isfinite(number) for number in numbers), row
            figures[row["name"]] = row["figures"]
    assert figures["the steps on the device"]["failed"] == 0
    assert figures["the steps on the device"]["tests"] >= 3
    for precision in ("float32", "bfloat16"):
        agreed = figures[precision]
        assert {value for key, value in agreed.items() if key.endswith("difference")} == {0.0}
        assert agreed["largest_difference_of_a_metric"] == 0.0
        stages = {"pretrain", "calibrate", "environments", "mask", "invariant", "variant", "evaluate"}
        assert stages <= figures[f"eager, {precision}"].keys()
        for study in PUBLISHED:
            assert figures[f"{study}, gramian, {precision}, eager"]["epoch_seconds"] > 0
            assert figures[f"{study}, sampled, {precision}, eager"]["epoch_seconds"] > 0
    assert figures["processes, K = 2"]["loss"] == figures["processes, K = 1"]["loss"]


def test_a_section_whose_time_is_over_is_ended_and_says_so() -> None:
    found = gpu.run_section("a default trial", CPU, 0.3)
    assert found["rows"] == []
    assert found["reason"] == "the section's 0 s were over before its first measurement"
    assert found["budget_seconds"] == 0.3
    assert found["seconds"] < 5


def test_sections_for_which_no_time_is_left_are_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "describe", lambda: {"cpu": "a quick one"})
    gpu.run_sections(CPU, 0.5, tmp_path)
    measured = json.loads((tmp_path / "gpu_reduced.json").read_text(encoding="utf-8"))
    assert measured["machine"] == {"cpu": "a quick one"}
    over = {"rows": [], "reason": "the 0.5 s of all sections were over"}
    assert measured["sections"] == dict.fromkeys(SECTIONS, over)
    assert capsys.readouterr().out.count(over["reason"]) == len(SECTIONS)


def test_a_section_has_its_share_of_what_is_left_and_its_results_are_there_before_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[float] = []

    def instantly(name: str, device: torch.device, seconds: float) -> dict[str, Any]:
        if given:
            kept = json.loads((tmp_path / "gpu_reduced.json").read_text(encoding="utf-8"))
            assert list(kept["sections"]) == list(SECTIONS)[: len(given)]
        given.append(seconds)
        return {"rows": [{"name": "one", "figures": {"seconds": 1.0}}]}

    monkeypatch.setattr(gpu, "describe", lambda: {"cpu": "a quick one"})
    monkeypatch.setattr(gpu, "run_section", instantly)
    gpu.run_sections(CPU, 100.0, tmp_path)
    shares = [section.share for section in SECTIONS.values()]
    expected = [100 * share / sum(shares[place:]) for place, share in enumerate(shares)]
    assert given == pytest.approx(expected, rel=0.05)
    assert given[-1] == pytest.approx(100, rel=0.05)  # what others left goes to the last one


def test_what_a_section_did_not_tell_has_a_reason() -> None:
    lines = ['["one", "two", "three"]', '{"name": "one", "figures": {"seconds": 1}}', '{"name": "tw']
    one = {"name": "one", "figures": {"seconds": 1}}
    over = "the section's 9 s were over"
    assert gpu.accounted(lines, None, 9.0) == {
        "rows": [one, {"name": "two", "reason": over}, {"name": "three", "reason": over}],
        "reason": over,
    }
    died = gpu.accounted(lines[:2], -11, 9.0)
    assert died["reason"] == died["rows"][1]["reason"] == "the process ended with code -11"
    assert gpu.accounted(['["one"]', lines[1]], 0, 9.0) == {"rows": [one]}
    assert gpu.accounted([], 1, 9.0)["reason"] == "the process ended with code 1 before its first measurement"


def test_a_measurement_that_fails_tells_why_and_the_others_are_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails() -> dict[str, object]:
        raise RuntimeError("no kernel\nin /home/somebody/torch/lib.so")

    def says_nothing() -> dict[str, object]:
        raise NotMeasured("needs CUDA")

    rows = {"fails": fails, "nothing": says_nothing, "works": lambda: {"seconds": 2.0}}
    section = Section(share=1.0, measurements=lambda place: rows)
    monkeypatch.setattr(gpu, "SECTIONS", {"some": section})
    gpu.measure("some", PLACE, tmp_path / "rows")
    lines = (tmp_path / "rows").read_text(encoding="utf-8").splitlines()
    found = gpu.accounted(lines, 0, 9.0)["rows"]
    assert [row["name"] for row in found] == list(rows)
    assert found[0]["reason"] == "RuntimeError: no kernel in lib.so"
    assert found[1]["reason"] == "needs CUDA"
    assert found[2]["figures"] == {"seconds": 2.0}


def test_drawn_data_have_the_published_size_no_pair_twice_and_cold_items() -> None:
    size = PUBLISHED["tiktok"].scaled(0.01)
    features, data = drawn(size, CPU)
    assert features.shape == (size.items, 128 + 128 + 1024)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(size.items))
    assert data.n_pairs == round(0.8 * size.interactions)
    assert len((data.pairs.user * size.items + data.pairs.item).unique()) == data.n_pairs
    assert len(data.warm_items) == round((1 - COLD) * size.items)
    assert bool(data.active.all())
    taken = data.item_degree.sort(descending=True).values
    assert taken[: len(taken) // 100].sum() > 0.05 * taken.sum()
    assert drawn(size, CPU)[0].equal(features)


def test_a_stage_takes_until_the_next_one_begins_and_rounds_count_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0])
    monkeypatch.setattr(gpu_sections, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    watch = Watch(PLACE)
    for stage in ("pretrain", "round 1: mask", "evaluate", "round 2: mask", "end"):
        watch.stage(stage)
    watch.curve("pretrain", 1, {"loss": 0.5})
    assert watch.seconds == {"pretrain": 1.0, "mask": 2.0 + 4.0, "evaluate": 3.0}
    assert watch.losses == [0.5]


def test_the_first_epochs_are_timed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import ours

    model = ours.model(*drawn(PUBLISHED["tiktok"].scaled(0.002), CPU), ours.GRAMIAN)
    now = iter([0.0, 10.0, 12.0])
    monkeypatch.setattr(gpu_sections, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    assert epoch_seconds(model, ours.GRAMIAN_TRAINING, 2, PLACE) == (5.0, 1.0)


def test_make_gpu_installs_nothing_and_takes_another_interpreter() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    planned = subprocess.run(
        ["make", "-n", "gpu", "BIN=/elsewhere"],
        cwd=ROOT,
        env=plain,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert planned.split() == ["/elsewhere/python", "-m", "benchmarks.gpu"]

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from painvrl.core.errors import StudyError
from painvrl.core.yamlfile import validated
from painvrl.engine.outcomes import Completed
from painvrl.engine.saved import SavedRun
from painvrl.study.ablation.spec import AblationSpec
from painvrl.study.ablation.table import MEASURES, make_table

ROWS = ("ultragcn", "erm", "painvrl", "loud")
QUALITY = {"ultragcn": (0.5, 0.1), "erm": (0.45, 0.2), "painvrl": (0.4, 0.3), "loud": (0.4, 0.3)}


@pytest.fixture
def spec(tree: dict[str, Any]) -> AblationSpec:
    tree["ablation"]["metrics"] = ["ndcg"]
    tree["ablation"]["seeds"] = [3, 4, 5]
    return validated(AblationSpec, tree)


def a_run(row: str, seed: int) -> SavedRun:
    """A user's value is the row's quality and what user and seed add to every row."""
    rng = np.random.default_rng(seed)
    users = {"iid": np.arange(40), "ood": np.arange(20, 60)}
    values = {}
    for place, part in enumerate(("iid", "ood")):
        noise = rng.normal(size=40) * 0.05 + 0.01 * seed
        values[f"{part}/ndcg_at_20"] = (QUALITY[row][place] + noise).astype(np.float32)
    metrics = {name: float(value.astype(np.float64).mean()) for name, value in values.items()}
    return SavedRun(outcome=Completed(metrics=metrics), users=users, values=values)


@pytest.fixture
def runs() -> dict[tuple[str, int], SavedRun]:
    return {(row, seed): a_run(row, seed) for row in ROWS for seed in (3, 4, 5)}


def slow_measures(run: SavedRun) -> dict[str, float]:
    iid, ood = run.outcome.metrics["iid/ndcg_at_20"], run.outcome.metrics["ood/ndcg_at_20"]
    return {"iid": iid, "ood": ood, "harmonic_mean": 2 / (1 / iid + 1 / ood), "drop": iid - ood}


def test_figures_are_means_and_deviations_over_the_seeds(
    spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]
) -> None:
    table = make_table(spec, runs, {})
    assert [row.name for row in table.rows] == list(ROWS)
    for row in table.rows:
        for measure in MEASURES:
            values = [slow_measures(runs[row.name, seed])[measure] for seed in (3, 4, 5)]
            found = row.figures["ndcg"][measure]
            assert found.mean == pytest.approx(np.mean(values))
            assert found.spread == pytest.approx(np.std(values, ddof=1))
            if row.name != "painvrl":
                beside = [slow_measures(runs["painvrl", seed])[measure] for seed in (3, 4, 5)]
                assert found.difference is not None
                assert found.difference.mean == pytest.approx(np.mean(values) - np.mean(beside), abs=1e-12)


def test_what_all_rows_share_cancels_in_the_intervals(
    spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]
) -> None:
    rows = {row.name: row.figures["ndcg"] for row in make_table(spec, runs, {}).rows}
    # Rows differ by a constant for every user: unpaired, a mean over 40 users would swing by 0.015.
    for measure, wanted in (("iid", 0.1), ("ood", -0.2), ("drop", 0.3)):
        found = rows["ultragcn"][measure].difference
        assert found is not None
        assert (found.low, found.high) == pytest.approx((wanted, wanted), abs=1e-5)
    found = rows["ultragcn"]["harmonic_mean"].difference
    assert found is not None
    assert found.low <= found.mean <= found.high < 0
    for measure in MEASURES:
        same = rows["loud"][measure].difference
        assert same is not None
        assert (same.mean, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-15)


def test_the_reference_is_not_compared_with_itself(
    spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]
) -> None:
    reference = make_table(spec, runs, {}).rows[2]
    assert all(figure.difference is None for figure in reference.figures["ndcg"].values())


def test_the_same_runs_make_the_same_table(spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]) -> None:
    assert make_table(spec, runs, {}) == make_table(spec, dict(reversed(runs.items())), {})


def test_a_row_is_compared_over_the_seeds_that_it_shares_with_the_reference(
    spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]
) -> None:
    del runs["erm", 4], runs["painvrl", 5]
    failures = {("erm", 4): "diverged: too fast", ("painvrl", 5): "worker_died: it died"}
    table = make_table(spec, runs, failures)
    rows = {row.name: row for row in table.rows}
    assert rows["erm"].seeds == (3, 5)
    assert rows["erm"].failures == {4: "diverged: too fast"}
    ood = rows["erm"].figures["ndcg"]["ood"]
    assert ood.mean == pytest.approx(
        statistics.fmean(slow_measures(runs["erm", seed])["ood"] for seed in (3, 5))
    )
    assert ood.difference is not None
    only = slow_measures(runs["erm", 3])["ood"] - slow_measures(runs["painvrl", 3])["ood"]
    assert ood.difference.mean == pytest.approx(only)
    assert table.failures() == ("erm, seed 4: diverged: too fast", "painvrl, seed 5: worker_died: it died")
    assert "- erm, seed 4: diverged: too fast" in table.as_markdown().splitlines()


def test_a_row_with_fewer_seeds_says_so(spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]) -> None:
    del runs["erm", 4]
    for seed in (3, 4, 5):
        del runs["loud", seed]
    table = make_table(spec, runs, {("erm", 4): "diverged: too fast"})
    wanted = ["ultragcn", "erm (2 of 3 seeds)", "painvrl", "loud (0 of 3 seeds)"]
    assert [line[0] for line in table.text("ndcg").rows] == wanted
    assert [row["label"] for row in json.loads(table.as_json())["rows"]] == wanted
    assert [row["name"] for row in json.loads(table.as_json())["rows"]] == list(ROWS)
    assert any(line.startswith("| erm (2 of 3 seeds) |") for line in table.as_markdown().splitlines())


def test_the_caption_says_what_the_intervals_are(
    spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]
) -> None:
    caption = make_table(spec, runs, {}).text("ndcg").caption
    assert caption is not None
    assert caption.endswith("with 95% intervals (paired, crossed bootstrap over seeds and users)")


def test_where_ood_is_a_mean_its_parts_are_resampled_and_weigh_the_same(spec: AblationSpec) -> None:
    # Rows differ by a constant in each part, so their mean differs by the constants' for certain: 0.2, and
    # not the 0.26 of all users together.
    shift = {"ultragcn": (0.0, 0.1, 0.3), "erm": (0.0, 0.0, 0.0), "painvrl": (0.0,) * 3, "loud": (0.0,) * 3}
    users = {"iid": np.arange(40), "ood_a": np.arange(10), "ood_b": np.arange(20, 60)}
    means = {"ood": ("ood_a", "ood_b")}
    runs = {}
    for seed in (3, 4, 5):
        rng = np.random.default_rng(seed)
        base = {part: 0.3 + 0.05 * rng.normal(size=len(who)) for part, who in users.items()}
        for row in ROWS:
            values = {
                f"{part}/ndcg_at_20": (base[part] + more).astype(np.float32)
                for part, more in zip(users, shift[row], strict=True)
            }
            metrics = {name: float(value.astype(np.float64).mean()) for name, value in values.items()}
            metrics["ood/ndcg_at_20"] = (metrics["ood_a/ndcg_at_20"] + metrics["ood_b/ndcg_at_20"]) / 2
            outcome = Completed(metrics=metrics)
            runs[row, seed] = SavedRun(outcome=outcome, users=users, values=values, means=means)
    rows = {row.name: row.figures["ndcg"] for row in make_table(spec, runs, {}).rows}
    for measure, wanted in (("iid", 0.0), ("ood", 0.2), ("drop", -0.2)):
        found = rows["ultragcn"][measure].difference
        assert found is not None
        assert (found.mean, found.low, found.high) == pytest.approx((wanted,) * 3, abs=1e-6)
    for measure in MEASURES:
        same = rows["erm"][measure].difference
        assert same is not None
        assert (same.mean, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-15)


def test_a_row_without_a_run_and_a_single_seed_are_shown_as_such(
    spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]
) -> None:
    few = {key: run for key, run in runs.items() if key[1] == 3 and key[0] != "erm"}
    table = make_table(spec, few, {})
    assert table.rows[1].figures == {}
    assert table.rows[0].figures["ndcg"]["iid"].spread is None
    lines = table.text("ndcg").rows
    assert lines[1][1:5] == ["-"] * 4
    assert lines[0][1] == f"{slow_measures(runs['ultragcn', 3])['iid']:.4f}"


def test_without_the_reference_there_are_means_and_no_differences(
    spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]
) -> None:
    table = make_table(spec, {key: run for key, run in runs.items() if key[0] != "painvrl"}, {})
    assert all(f.difference is None for row in table.rows for f in row.figures.get("ndcg", {}).values())
    assert table.rows[0].figures["ndcg"]["iid"].mean > 0


def test_runs_judged_by_other_users_do_not_pair(
    spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]
) -> None:
    odd = runs["erm", 4]
    runs["erm", 4] = SavedRun(
        outcome=odd.outcome, users={**odd.users, "ood": odd.users["ood"] + 1}, values=odd.values
    )
    with pytest.raises(StudyError, match="seed 4 were judged by other users"):
        make_table(spec, runs, {})


def test_nobody_found_is_a_harmonic_mean_of_zero(spec: AblationSpec) -> None:
    nothing = {
        (row, 3): SavedRun(
            outcome=Completed(metrics={"iid/ndcg_at_20": 0.0, "ood/ndcg_at_20": 0.0}),
            users={"iid": np.arange(3), "ood": np.arange(3)},
            values={name: np.zeros(3, np.float32) for name in ("iid/ndcg_at_20", "ood/ndcg_at_20")},
        )
        for row in ROWS
    }
    assert make_table(spec, nothing, {}).rows[0].figures["ndcg"]["harmonic_mean"].mean == 0.0


def test_how_much_of_planted_environments_was_found_is_that_of_the_last_round(
    spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]
) -> None:
    last = {3: 0.5, 4: 0.7, 5: 0.9}
    for seed, found in last.items():
        rounds = ({"environments/label_recovery": 0.1}, {"environments/label_recovery": found})
        outcome = replace(runs["painvrl", seed].outcome, rounds=rounds)
        runs["painvrl", seed] = replace(runs["painvrl", seed], outcome=outcome)
    table = make_table(spec, runs, {})
    of_row = {row.name: row.label_recovery for row in table.rows}
    assert of_row["ultragcn"] is of_row["erm"] is None
    assert of_row["painvrl"] is not None
    assert of_row["painvrl"].mean == pytest.approx(0.7)
    assert of_row["painvrl"].spread == pytest.approx(0.2)
    shown = table.text("ndcg")
    columns, lines = shown.columns, shown.rows
    place = columns.index("label recovery")
    assert place == 5, "after what was measured, before the differences"
    assert "recovered: of the last round" in str(shown.caption)
    assert {line[0]: line[place] for line in lines} == {
        "ultragcn": "-",
        "erm": "-",
        "painvrl": "0.7000 ± 0.2000",
        "loud": "-",
    }
    assert json.loads(table.as_json())["rows"][2]["label_recovery"]["mean"] == pytest.approx(0.7)


def test_data_without_planted_environments_have_no_such_column(
    spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]
) -> None:
    rounds = ({"mask/sparsity": 0.5},)
    runs["erm", 3] = replace(runs["erm", 3], outcome=replace(runs["erm", 3].outcome, rounds=rounds))
    table = make_table(spec, runs, {})
    assert "label recovery" not in table.text("ndcg").columns
    assert "label recovery" not in str(table.text("ndcg").caption)


def test_markdown_and_json_hold_the_figures(
    spec: AblationSpec, runs: dict[tuple[str, int], SavedRun]
) -> None:
    table = make_table(spec, runs, {})
    loaded = json.loads(table.as_json())
    assert [row["name"] for row in loaded["rows"]] == list(ROWS)
    ood = table.rows[0].figures["ndcg"]["ood"]
    assert ood.spread is not None
    assert ood.difference is not None
    assert loaded["rows"][0]["figures"]["ndcg"]["ood"]["difference"]["low"] == ood.difference.low
    line = next(line for line in table.as_markdown().splitlines() if line.startswith("| ultragcn |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    columns = table.text("ndcg").columns
    assert len(cells) == len(columns) == 9
    assert cells[2] == f"{ood.mean:.4f} ± {ood.spread:.4f}"
    wanted = f"{ood.difference.mean:+.4f} [{ood.difference.low:+.4f}, {ood.difference.high:+.4f}]"
    assert cells[columns.index("OOD - painvrl")] == wanted

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from painvrl.core.workspace import Workspace
from painvrl.run.checkpoint import Checkpoint
from painvrl.run.prepare import Prepared
from painvrl.serving.registered_models import RegisteredModel
from painvrl.serving.served_model import COLUMNS, ServedModel

IDS = [str(number) for number in range(60)]
"""The users of the tiny data; their items are 0 to 79."""

Ask = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def ask(checkpoint: Checkpoint) -> Ask:
    """The model of the checkpoint, asked in this process."""
    model = ServedModel()
    model.load_context(SimpleNamespace(artifacts={"checkpoint": str(checkpoint.path)}))

    def predict(columns: Mapping[str, object], **params: object) -> pd.DataFrame:
        return model.predict(None, pd.DataFrame(columns), params)

    return predict


def recommended(checkpoint: Checkpoint, user: str, k: int) -> list[tuple[object, ...]]:
    """What the checkpoint recommends, as rows."""
    best = checkpoint.recommend(user, k)
    return [(user, one.rank, one.item, one.title, one.score, "ok") for one in best]


def rows(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    assert list(frame.columns) == COLUMNS
    return list(frame.itertuples(index=False, name=None))


def most_popular(checkpoint: Checkpoint) -> list[tuple[str, float]]:
    """Items by how many users have them, counted one by one; equal counts keep the items' order."""
    counts = [0] * len(checkpoint.item_ids)
    for item in checkpoint.seen_items.tolist():
        counts[item] += 1
    order = sorted(range(len(counts)), key=lambda item: -counts[item])
    return [(checkpoint.item_ids[item], float(counts[item])) for item in order]


@pytest.mark.slow
@given(users=st.lists(st.sampled_from([one for one in IDS if one != "4"]), max_size=5), k=st.integers(1, 90))
def test_a_known_user_gets_what_the_checkpoint_recommends(
    ask: Ask, checkpoint: Checkpoint, users: list[str], k: int
) -> None:
    expected = [row for user in users for row in recommended(checkpoint, user, k)]
    assert rows(ask({"user": users}, k=k)) == expected


def test_without_parameters_they_are_the_ten_best_unseen_items(ask: Ask, checkpoint: Checkpoint) -> None:
    assert rows(ask({"user": ["7"]})) == recommended(checkpoint, "7", 10)


@pytest.mark.parametrize(
    "users",
    [[7, 3], ["7", "3"], [7, "3"], np.array([7, 3]), [7.0, 3.0]],
    ids=["int", "text", "mixed", "array", "float"],
)
def test_an_id_is_the_same_as_a_text_and_as_a_number(ask: Ask, users: list[object]) -> None:
    assert rows(ask({"user": users}, k=3)) == rows(ask({"user": ["7", "3"]}, k=3))


@pytest.mark.parametrize("user", ["nobody", 1000, "07", "", None, float("nan"), 0.5])
def test_an_unknown_user_gets_the_most_popular_items_and_costs_the_others_nothing(
    ask: Ask, checkpoint: Checkpoint, user: object
) -> None:
    answer = ask({"user": ["1", user, "2"]}, k=4)
    assert rows(answer[answer["status"] == "ok"]) == rows(ask({"user": ["1", "2"]}, k=4))
    fallback = answer[answer["status"] == "unknown user"]
    assert list(zip(fallback["item"], fallback["score"], strict=True)) == most_popular(checkpoint)[:4]
    assert list(answer["user"].iloc[[0, 8]]) == ["1", "2"], "users come in the order of the rows"


def test_a_user_without_training_data_gets_popular_items_that_they_have_not_taken(
    ask: Ask, checkpoint: Checkpoint, untrained: str
) -> None:
    start, end = checkpoint.seen_offsets[int(untrained) : int(untrained) + 2]
    taken = {checkpoint.item_ids[item] for item in checkpoint.seen_items[start:end]}
    assert taken
    left = [one for one in most_popular(checkpoint) if one[0] not in taken]
    answer = ask({"user": [untrained]}, k=5)
    assert set(answer["status"]) == {"user without training data"}
    assert list(zip(answer["item"], answer["score"], strict=True)) == left[:5]


def test_all_items_are_ranked_where_seen_ones_are_not_left_out(ask: Ask, checkpoint: Checkpoint) -> None:
    answer = ask({"user": ["9"]}, k=80, exclude_seen=False)
    scores = checkpoint.item_vectors @ checkpoint.user_vectors[9]
    expected = sorted(range(80), key=lambda item: -scores[item])
    assert answer["item"].tolist() == [str(item) for item in expected]
    unseen = ask({"user": ["9"]}, k=80)
    kept = answer[answer["item"].isin(unseen["item"])]
    assert kept["item"].tolist() == unseen["item"].tolist()


@given(st.lists(st.integers(0, 79), max_size=8, unique=True), st.sampled_from(["7", "4", "nobody"]))
def test_candidates_keep_the_order_that_all_items_have(ask: Ask, candidates: list[int], user: str) -> None:
    everything = ask({"user": [user]}, k=80)
    expected = [row[2] for row in rows(everything) if int(str(row[2])) in candidates]
    found = ask({"user": [user], "candidates": [candidates]}, k=80)
    assert found["item"].tolist() == expected
    texts = ask({"user": [user], "candidates": [[str(one) for one in candidates]]}, k=80)
    assert texts.equals(found)


def test_each_unknown_candidate_is_a_row_that_says_so(ask: Ask) -> None:
    lists = [["no such item", 3, 5, "3", "other", "other"], None, ["only this"]]
    found = ask({"user": ["7", "7", "nobody"], "candidates": lists}, k=2, exclude_seen=False)
    assert sorted(found["item"][:2]) == ["3", "5"]
    unknown = [
        ("7", None, "no such item", None, None, "unknown candidate"),
        ("7", None, "other", None, None, "unknown candidate"),
    ]
    assert rows(found[2:4]) == unknown
    assert rows(found[4:6]) == rows(ask({"user": ["7"]}, k=2, exclude_seen=False))
    assert rows(found[6:]) == [("nobody", None, "only this", None, None, "unknown candidate")]


def new_items(prepared: Prepared, *places: int) -> list[dict[str, object]]:
    """Items of the data under other ids, by their features alone."""
    values = prepared.dataset.modalities["planted"].values
    return [{"item": f"new {place}", "features": {"planted": values[place].tolist()}} for place in places]


def test_a_new_item_is_scored_by_its_features_alone(
    ask: Ask, checkpoint: Checkpoint, tiny_prepared: Prepared
) -> None:
    new = [*new_items(tiny_prepared, 3, 70), {"item": 900, "title": "dark", "features": {"planted": None}}]
    everything = ask({"user": ["7"], "new_items": [new]}, k=100, exclude_seen=False)
    assert set(everything["status"]) == {"ok"}
    values = tiny_prepared.dataset.modalities["planted"].values.numpy()
    features = {"planted": np.concatenate([values[[3, 70]], np.full((1, 10), np.nan)])}
    expected = checkpoint.encode_items(features) @ checkpoint.user_vectors[7]
    by_item = everything.set_index("item")
    np.testing.assert_allclose(by_item.loc[["new 3", "new 70", "900"], "score"], expected, rtol=1e-5)
    assert list(by_item.loc[["new 3", "900"], "title"]) == ["new 3", "dark"]
    assert everything["score"].is_monotonic_decreasing
    old = everything[~everything["item"].isin(["new 3", "new 70", "900"])]
    assert old["item"].tolist() == ask({"user": ["7"]}, k=80, exclude_seen=False)["item"].tolist()
    few = ask({"user": ["7"], "candidates": [[5]], "new_items": [new]}, exclude_seen=False)
    assert set(few["item"]) == {"5", "new 3", "new 70", "900"}


@pytest.mark.parametrize("size", [1e-13, 3e-24])
def test_a_new_item_whose_features_are_tiny_is_scored_like_a_large_one(
    ask: Ask, checkpoint: Checkpoint, tiny_prepared: Prepared, size: float
) -> None:
    values = tiny_prepared.dataset.modalities["planted"].values[3:4].numpy()
    large, tiny = (checkpoint.encode_items({"planted": values * one}) for one in (1, size))
    np.testing.assert_allclose(tiny, large, rtol=1e-4, atol=1e-6)
    (new,) = new_items(tiny_prepared, 3)
    tiny_new = {"item": "tiny", "features": {"planted": (values[0].astype(float) * size).tolist()}}
    found = ask({"user": ["7"], "candidates": [[5]], "new_items": [[new, tiny_new]]}, exclude_seen=False)
    scores = found.set_index("item")["score"]
    assert scores["tiny"] == pytest.approx(scores["new 3"], rel=1e-4)


def test_users_without_scores_get_new_items_last(ask: Ask, tiny_prepared: Prepared) -> None:
    new = new_items(tiny_prepared, 3)
    answer = ask({"user": ["nobody", "4"], "new_items": [new, None]}, k=100)
    assert (answer["item"][80], answer["score"][80], answer["status"][80]) == ("new 3", 0.0, "unknown user")
    assert len(answer) < 81 + 80


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        ({"item": "3", "features": {"planted": [0.0] * 10}}, "an id that is new (found '3')"),
        ({"features": {"planted": [0.0] * 10}}, "an id that is new (found '')"),
        ("new", "an id that is new (found '')"),
        ({"item": "a", "features": {}}, "'a' must have the keys planted"),
        ({"item": "a"}, "'a' must have the keys planted"),
        (
            {"item": "a", "features": {"planted": [0.0] * 9}},
            "planted of the new item 'a' must be a list of 10",
        ),
        ({"item": "a", "features": {"planted": ["x"] * 10}}, "must be a list of 10 finite numbers"),
        ({"item": "a", "features": {"planted": [float("inf")] * 10}}, "must be a list of 10 finite numbers"),
    ],
)
@pytest.mark.parametrize("user", ["7", "nobody"])
def test_a_new_item_that_the_model_cannot_take_is_a_mistake(
    ask: Ask, new: object, sentence: str, user: str
) -> None:
    with pytest.raises(MlflowException, match=re.escape(sentence)):
        ask({"user": [user], "new_items": [[new]]})


def test_no_row_is_an_answer_without_rows(ask: Ask) -> None:
    assert rows(ask({"user": []})) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "params", "sentence"),
    [
        ({}, {"kk": 5}, "'kk' is not a parameter of this model; did you mean k?"),
        ({}, {"seen": True}, "'seen' is not a parameter of this model; known: k, exclude_seen"),
        ({"candidats": [[1]]}, {}, "'candidats' is not a column of this model; did you mean candidates?"),
    ],
)
def test_a_name_that_mlflow_would_drop_is_refused(
    ask: Ask,
    registered: RegisteredModel,
    place: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    columns: dict[str, object],
    params: dict[str, object],
    sentence: str,
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.tracking_uri)
    model = mlflow.pyfunc.load_model(registered.uri)
    with pytest.raises(MlflowException, match=re.escape(sentence)):
        ask({"user": ["7"], **columns}, **params)
    with pytest.raises(MlflowException, match=re.escape(sentence)):
        model.predict(pd.DataFrame({"user": ["7"], **columns}), params=params)
    assert rows(model.predict(pd.DataFrame({"user": ["7"]}), params={"k": 2})) == rows(
        ask({"user": ["7"]}, k=2)
    )


ALONE = """
import sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"painvrl", "torch", "optuna"}:
            raise ImportError(f"{name} is not in the model's environment")
sys.meta_path.insert(0, Forbidden())
"""


@pytest.mark.slow
def test_the_snippet_answers_where_painvrl_and_torch_cannot_be_imported(
    registered: RegisteredModel, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    program = (
        f"{ALONE}\n{registered.snippet}\nprint(model.predict(model.input_example).to_json(orient='values'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [], "the snippet asks the workspace, and makes no store of its own"
    user = checkpoint.trained_users[0]
    printed, last = done.stdout.rpartition("\n[[")[::2]
    expected = recommended(checkpoint, user, 10)
    assert [row[:4] for row in json.loads(f"[[{last}")] == [list(row[:4]) for row in expected]
    assert [line.split()[3] for line in printed.splitlines()[1:]] == [row[2] for row in expected[:5]]


def test_the_environment_is_small_and_pinned(registered: RegisteredModel, place: Workspace) -> None:
    (file,) = place.artifacts.rglob("requirements.txt")
    packages = [line.split("==") for line in file.read_text().split()]
    assert [name for name, _ in packages] == ["mlflow-skinny", "numpy", "pandas", "safetensors"]
    assert all(version[0].isdigit() and "+" not in version for _, version in packages)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(registered: RegisteredModel, place: Workspace) -> Iterator[str]:
    """``mlflow models serve`` on the registered model, as the documents show it."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", registered.uri]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": place.tracking_uri,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    log = place.root / "serve.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=place.root, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 180
        while True:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def post(address: str, body: object) -> Any:
    """The rows that the server answers with."""
    request = urllib.request.Request(
        address, json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    return [tuple(row[column] for column in COLUMNS) for row in answer["predictions"]]


@pytest.mark.slow
def test_mlflow_serves_what_the_checkpoint_recommends(
    address: str, checkpoint: Checkpoint, ask: Ask, untrained: str, tiny_prepared: Prepared
) -> None:
    users: list[object] = ["7", 3, "nobody", untrained, 59]
    asked = [{"user": user} for user in users]
    answer = post(address, {"dataframe_records": asked, "params": {"k": 3}})
    known = [row for user in ("7", "3", "59") for row in recommended(checkpoint, user, 3)]
    assert [row for row in answer if row[-1] == "ok"] == known
    assert answer == rows(ask({"user": users}, k=3))
    assert [row[-1] for row in answer[6:12:3]] == ["unknown user", "user without training data"]

    assert post(address, {"dataframe_records": asked[:1]}) == recommended(checkpoint, "7", 10)
    split = {"columns": ["user"], "data": [[7], ["7"]]}
    assert post(address, {"dataframe_split": split}) == recommended(checkpoint, "7", 10) * 2
    assert post(address, {"inputs": {"user": [7, 3]}, "params": {"k": 1}}) == known[:1] + known[3:4]

    seen = post(address, {"dataframe_records": asked[:1], "params": {"k": 80, "exclude_seen": False}})
    assert seen == rows(ask({"user": ["7"]}, k=80, exclude_seen=False))
    assert len(seen) == 80
    listed = [{"user": "7", "candidates": [5, "6"]}, {"user": 3}]
    assert post(address, {"dataframe_records": listed, "params": {"exclude_seen": False}}) == rows(
        ask({"user": ["7", "3"], "candidates": [[5, 6], None]}, exclude_seen=False)
    )
    new = [*new_items(tiny_prepared, 3), {"item": "dark", "features": {"planted": None}}]
    listed = [{"user": "7", "candidates": [5, "none"], "new_items": new}, {"user": 3}]
    found = post(address, {"dataframe_records": listed, "params": {"exclude_seen": False}})
    columns = {"user": ["7", "3"], "candidates": [[5, "none"], None], "new_items": [new, None]}
    assert found == rows(ask(columns, exclude_seen=False))
    assert found[3] == ("7", None, "none", None, None, "unknown candidate")


@pytest.mark.slow
def test_a_mistake_in_a_request_is_answered_with_400_and_a_sentence(address: str) -> None:
    for body, sentence in (
        ({"dataframe_records": [{"user": "7"}], "params": {"k": 0}}, "k must be at least 1 (found 0)"),
        ({"dataframe_records": [{"name": "7"}]}, "missing"),
        (
            {"dataframe_records": [{"user": "7"}], "params": {"kk": 5}},
            "'kk' is not a parameter of this model; did you mean k?",
        ),
        (
            {"dataframe_split": {"columns": ["user", "candidats"], "data": [["7", [1]]]}},
            "'candidats' is not a column of this model; did you mean candidates?",
        ),
        ({"inputs": {"user": ["7"], "new": ["x"]}}, "'new' is not a column of this model"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(address, body)
        with refused.value as response:
            assert response.code == 400
            assert sentence in response.read().decode()

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from painvrl.baselines.vbpr import VbprConfig, _dataset, trained, vbpr
from painvrl.core.errors import Diverged

pytest.importorskip("cornac")

SETTINGS = VbprConfig(factors=3, learning_rate=0.1, epochs=4, batch_size=16)


def test_warm_items_are_scored_as_the_library_does_and_cold_ones_by_their_features(
    random_inputs: Any, table: Any
) -> None:
    inputs = random_inputs()
    features = inputs.prepared.features
    model = trained(inputs, SETTINGS, torch.arange(8), features[:8])
    found = table(vbpr(inputs)(SETTINGS), inputs).numpy()
    for user in range(12):
        np.testing.assert_allclose(found[user, :8], model.score(user), rtol=1e-4, atol=1e-5)
        projected = features[8:].numpy() @ model.emb_matrix @ model.theta_user[user]
        by_features = projected + (features[8:].numpy() @ model.beta_prime).ravel()
        np.testing.assert_allclose(found[user, 8:], by_features, rtol=1e-4, atol=1e-5)
    assert np.abs(model.gamma_item).max() > 0.1
    assert found[:, 8:].std(axis=0).min() > 0.01


def test_warm_items_keep_their_own_vectors_whatever_their_numbers(make_inputs: Any, table: Any) -> None:
    # Item 1 is cold: items 0 and 2 are 0 and 1 to the library.
    features = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    inputs = make_inputs([(0, 0), (0, 2), (1, 2)], 3, features)
    model = trained(inputs, SETTINGS, torch.tensor([0, 2]), features[[0, 2]])
    found = table(vbpr(inputs)(SETTINGS), inputs).numpy()
    for user in range(3):
        np.testing.assert_allclose(found[user, [0, 2]], model.score(user), rtol=1e-4, atol=1e-5)


def test_the_library_is_asked_for_the_settings(random_inputs: Any) -> None:
    settings = VbprConfig(
        factors=5, learning_rate=0.02, regularization=0.3, projection_l2=0.7, epochs=1, batch_size=64
    )
    inputs = random_inputs()
    model = trained(inputs, settings, torch.arange(8), inputs.prepared.features[:8])
    assert (model.k, model.k2, model.n_epochs, model.batch_size) == (5, 5, 1, 64)
    assert (model.learning_rate, model.lambda_w, model.lambda_b, model.lambda_e) == (0.02, 0.3, 0.3, 0.7)


def test_an_epoch_takes_every_pair_once_with_a_negative_of_the_user(random_inputs: Any) -> None:
    train = random_inputs().prepared.train
    data = _dataset(train, torch.Generator().manual_seed(0))
    batches = list(data.uij_iter(16))
    users, items, negatives = (np.concatenate(column) for column in zip(*batches, strict=True))
    cells = (train.user * 10 + train.item).tolist()
    assert [len(batch[0]) for batch in batches[:-1]] == [16] * (len(train) // 16)
    assert sorted(users * 10 + items) == sorted(cells)
    free = [user != 0 for user in users]  # user 0 took everything
    assert not set((users * 10 + negatives)[free]) & set(cells)
    assert negatives.max() < 8


def test_the_runs_seed_decides_the_result(random_inputs: Any, table: Any) -> None:
    first, again, other = (
        table(vbpr(inputs)(SETTINGS), inputs)
        for inputs in (random_inputs(seed=1), random_inputs(seed=1), random_inputs(seed=2))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nothing_is_printed(random_inputs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    vbpr(random_inputs())(SETTINGS)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_training_that_blows_up_is_a_failed_trial(random_inputs: Any) -> None:
    with pytest.raises(Diverged):
        vbpr(random_inputs())(SETTINGS.model_copy(update={"learning_rate": 1e30}))

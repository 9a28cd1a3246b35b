from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.core.errors import Diverged
from painvrl.data.interactions import Interactions
from painvrl.model.batches import Batch, epoch_of_batches
from painvrl.model.fit import FitState, TrainingConfig, fit
from painvrl.model.losses import GramianLoss, SampledLoss
from painvrl.model.mixing import ItemAttention, Mixing, ScalarWeights, Sum
from painvrl.model.training_data import training_data
from painvrl.model.ultragcn import Backbone, BackboneConfig, Rows

LISTED = ((0, 0), (0, 1), (0, 4), (1, 1), (1, 3), (1, 4), (2, 0), (2, 5), (3, 3), (3, 5))
USERS, ITEMS, COLD = 5, 6, 2  # user 4 has no pair, item 2 neither
A0 = 0.2
SAMPLED = SampledLoss(negatives=7, batch_size=4)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(
    base: tuple[Tensor, Tensor] | None = None,
    base_id_dim: int = 0,
    seed: int = 0,
    mixing: type[Mixing] = Sum,
    **hyperparameters: object,
) -> Backbone:
    columns = torch.tensor(LISTED)
    train = Interactions(user=columns[:, 0], item=columns[:, 1], n_users=USERS, n_items=ITEMS)
    config = BackboneConfig.model_validate(
        {
            "id_dim": 2,
            "content_dim": 3,
            "l2": 0.3,
            "projection_l2": 0.01,
            "loss": GramianLoss(all_pairs_weight=A0),
        }
        | hyperparameters
    )
    features = torch.randn(ITEMS, 4, generator=gen(4))
    data = training_data(train, torch.device("cpu"))
    gates = None if mixing is Sum else torch.tensor([1.0, 0.0, 1.0, 0.5, 0.0, 1.0, 0.0, 0.5])
    return Backbone(
        features, data, config, gen(seed), gates=gates, base=base, base_id_dim=base_id_dim, mixing=mixing
    )


def silent(epoch: int, values: Mapping[str, float]) -> None:
    pass


def parameters(model: Backbone) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy().copy() for name, value in model.named_parameters()}


def hand_gradient(
    p: dict[str, np.ndarray], model: Backbone, kept: np.ndarray, base_id_dim: int
) -> dict[str, np.ndarray]:
    """Every gradient of the gramian loss with its L2 term, written down by hand on the dense score matrix."""
    f = model.features.double().numpy()
    x = np.zeros((USERS, ITEMS))
    for user, item in LISTED:
        x[user, item] = 1
    n, warm, config = len(LISTED), (x.sum(0) > 0).astype(float), model.config
    seen = (warm * kept)[:, None]  # rows whose ID part this step sees
    active = (x.sum(1) > 0).astype(float)[:, None]  # users that are known
    own_id, own_content = p["user_id"] * active, p["user_content"] * active
    h = f @ p["weight"] + p["bias"]
    s = own_id @ (p["item_id"] * seen).T + own_content @ h.T
    if model.base is not None:
        users, items = (vectors.double().numpy().copy() for vectors in model.base)
        items[:, :base_id_dim] *= kept[:, None]
        s += users @ items.T
    slope = (-2 * (1 - s) * x - 2 * A0 * s * x + 2 * A0 * s * warm) / n
    by_user = np.sqrt(x.sum(1) + A0 * ITEMS)[:, None]
    by_item = (np.sqrt(x.sum(0) + A0 * USERS) * warm)[:, None]
    shrink = 2 * config.l2 / n
    to_content = slope.T @ own_content
    return {
        "user_id": active * (slope @ (p["item_id"] * seen)) + shrink * by_user * p["user_id"],
        "item_id": (slope.T @ own_id) * seen + shrink * by_item * p["item_id"],
        "user_content": active * (slope @ h) + shrink * by_user * p["user_content"],
        "weight": f.T @ to_content + 2 * config.projection_l2 * p["weight"],
        "bias": to_content.sum(0),
    }


def hand_adam(
    model: Backbone, rate: float, kept: Sequence[np.ndarray], base_id_dim: int = 0
) -> dict[str, np.ndarray]:
    """Parameters after one Adam step for each entry of ``kept``, in double precision."""
    p = parameters(model)
    first = {name: np.zeros_like(value) for name, value in p.items()}
    second = {name: np.zeros_like(value) for name, value in p.items()}
    for step, seen in enumerate(kept, start=1):
        gradient = hand_gradient(p, model, seen, base_id_dim)
        for name in p:
            first[name] = 0.9 * first[name] + 0.1 * gradient[name]
            second[name] = 0.999 * second[name] + 0.001 * gradient[name] ** 2
            mean, square = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
            p[name] = p[name] - rate * mean / (np.sqrt(square) + 1e-8)
    return p


def assert_parameters(model: Backbone, expected: dict[str, np.ndarray]) -> None:
    for name, value in parameters(model).items():
        np.testing.assert_allclose(value, expected[name], atol=2e-5, err_msg=name)


def test_two_epochs_are_two_adam_steps_computed_by_hand() -> None:
    model, everything = build(), np.ones(ITEMS)
    expected = hand_adam(model, 0.1, [everything, everything])
    start = parameters(model)
    fit(model, TrainingConfig(learning_rate=0.1), gen(), evaluate=None, observe=silent, epochs=2)
    assert_parameters(model, expected)
    assert np.abs(expected["weight"] - start["weight"]).max() > 0.1  # the tolerance is far below a step


def test_two_steps_of_a_branch_with_dropout_computed_by_hand() -> None:
    base = (torch.randn(USERS, 3, generator=gen(8)), torch.randn(ITEMS, 3, generator=gen(9)))
    model = build(base=base, base_id_dim=1, id_dropout=0.5)
    draws = gen(7)
    kept = [(torch.rand(ITEMS, generator=draws) >= 0.5).double().numpy() for _ in range(2)]
    assert 0 < kept[0].sum() + kept[1].sum() < 2 * ITEMS
    expected = hand_adam(model, 0.1, kept, base_id_dim=1)
    fit(model, TrainingConfig(learning_rate=0.1), gen(7), evaluate=None, observe=silent, epochs=2)
    assert_parameters(model, expected)


class Script:
    """Evaluations that return a scripted value, and remember the vectors that they were shown."""

    def __init__(self, values: Sequence[float], name: str = "iid/ndcg_at_20") -> None:
        self.name = name
        self.values: Iterator[float] = iter(values)
        self.shown: list[tuple[Tensor, Tensor]] = []
        self.epochs: list[int] = []
        self.reported_of: list[int] = []

    def evaluate(self, epoch: int, users: Tensor, items: Tensor) -> dict[str, float]:
        self.reported_of.append(epoch)
        self.shown.append((users.clone(), items.clone()))
        return {self.name: next(self.values)}

    def observe(self, epoch: int, values: Mapping[str, float]) -> None:
        self.epochs.append(epoch)

    def fit(self, model: Backbone, epochs: int | None = None, **hyperparameters: object) -> int:
        config = TrainingConfig.model_validate(
            {"learning_rate": 0.05, "monitor": self.name} | hyperparameters
        )
        return fit(model, config, gen(), evaluate=self.evaluate, observe=self.observe, epochs=epochs)


def test_early_stopping_restores_the_best_state() -> None:
    script, model = Script([0.1, 0.5, 0.4, 0.3, 0.2]), build()
    result = script.fit(model, max_epochs=10, evaluate_every=2, patience=3)
    assert result == 4
    users, items = model.user_vectors(), model.item_vectors()
    assert torch.equal(users, script.shown[1][0])
    assert torch.equal(items, script.shown[1][1])
    assert not torch.equal(users, script.shown[-1][0])


def test_training_stops_after_patience_evaluations_without_a_better_value() -> None:
    script = Script([0.3, 0.5, 0.4, 0.5, 0.9])
    result = script.fit(build(), max_epochs=100, evaluate_every=5, patience=2)
    assert script.epochs == [5, 10, 15, 20]  # the fourth evaluation equals the best; that is not better
    assert result == 10


def test_a_better_value_starts_patience_anew() -> None:
    script = Script([0.3, 0.2, 0.4, 0.3, 0.2])
    result = script.fit(build(), max_epochs=100, evaluate_every=1, patience=2)
    assert script.epochs == [1, 2, 3, 4, 5]
    assert result == 3


def test_the_last_epoch_is_evaluated_whatever_the_cadence() -> None:
    script, model = Script([0.1, 0.2, 0.3]), build()
    result = script.fit(model, max_epochs=7, evaluate_every=3)
    assert script.epochs == script.reported_of == [3, 6, 7]
    assert result == 7
    assert torch.equal(model.user_vectors(), script.shown[-1][0])


def test_early_stopping_watches_the_named_metric() -> None:
    script = Script([0.1, 0.5, 0.4], name="ood/recall_at_5")
    assert script.fit(build(), max_epochs=3, evaluate_every=1) == 2


def test_a_refit_trains_exactly_the_asked_epochs() -> None:
    script, model = Script([0.9] + [0.1] * 20), build()
    result = script.fit(model, epochs=9, max_epochs=3, evaluate_every=1, patience=1)
    assert script.epochs == list(range(1, 10))
    assert result == 9
    assert torch.equal(model.user_vectors(), script.shown[-1][0])


def test_an_interrupt_that_was_lost_ends_the_training_before_its_next_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def lost(epoch: int, values: Mapping[str, float]) -> None:
        seen.append(epoch)
        monkeypatch.setattr("painvrl.core.interrupts._asked", epoch == 2)

    with pytest.raises(KeyboardInterrupt):
        fit(build(), TrainingConfig(max_epochs=9, evaluate_every=1), gen(), evaluate=None, observe=lost)
    assert seen == [1, 2]


def test_without_an_evaluation_training_goes_to_the_end() -> None:
    model, twin = build(), build()
    result = fit(model, TrainingConfig(max_epochs=4), gen(), evaluate=None, observe=silent)
    assert result == 4
    fit(twin, TrainingConfig(max_epochs=99), gen(), evaluate=None, observe=silent, epochs=4)
    assert torch.equal(model.user_vectors(), twin.user_vectors())


def test_the_observed_loss_is_the_mean_over_the_steps_of_the_epoch() -> None:
    model, seen = build(), []
    first = float(model.full_loss(None).detach())
    fit(
        model,
        TrainingConfig(evaluate_every=1),
        gen(),
        evaluate=None,
        observe=lambda epoch, values: seen.append((epoch, dict(values))),
        epochs=2,
    )
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert seen[0][1] == {"loss": pytest.approx(first)}
    assert seen[1][1]["loss"] < first

    model, steps, seen = build(loss=SAMPLED), [], []
    whole = model.batch_loss

    def spy(batch: Batch, rows: Rows) -> Tensor:
        loss = whole(batch, rows)
        steps.append(float(loss.detach()))
        return loss

    model.batch_loss = spy  # type: ignore[method-assign]
    fit(model, TrainingConfig(), gen(), evaluate=None, observe=lambda e, v: seen.append(v["loss"]), epochs=1)
    assert len(steps) == 3  # ten pairs in batches of four
    assert seen == [pytest.approx(sum(steps) / 3)]


def test_an_epoch_of_the_sampled_loss_sees_every_pair_once_and_only_warm_negatives() -> None:
    model, batches, drawn, kept = build(loss=SAMPLED, id_dropout=0.5), [], [], []
    whole = model.batch_loss

    def spy(batch: Batch, rows: Rows) -> Tensor:
        users, items = batch.users[batch.user].tolist(), batch.items[batch.item].tolist()
        batches.append(list(zip(users, items, strict=True)))
        drawn.append(batch.items[batch.negative].tolist())
        assert batch.kept is not None
        kept.append(tuple(zip(batch.items.tolist(), batch.kept.tolist(), strict=True)))
        return whole(batch, rows)

    model.batch_loss = spy  # type: ignore[method-assign]
    fit(model, TrainingConfig(), gen(), evaluate=None, observe=silent, epochs=20)
    assert [len(batch) for batch in batches[:3]] == [4, 4, 2]
    epochs = [list(chain(*batches[start : start + 3])) for start in range(0, 60, 3)]
    assert all(sorted(epoch) == sorted(LISTED) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert all(len(negatives) == SAMPLED.negatives for negatives in drawn)
    counts = np.bincount(list(chain(*drawn)), minlength=ITEMS)
    assert counts[COLD] == 0
    assert counts[[0, 1, 3, 4, 5]].min() > 0.6 * counts.sum() / 5  # uniform over the warm items
    assert len(set(kept)) > 10  # a fresh draw for every step


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {},
        {"mixing": ScalarWeights},
        {"mixing": ItemAttention},
        {"item_item_weight": 0.7, "item_item_neighbours": 2},
    ],
    ids=["sum", "scalar", "item", "item-item"],
)
def test_lazy_steps_are_sparse_adam_on_tables_and_adam_on_the_projection(
    hyperparameters: dict[str, Any],
) -> None:
    model, twin = (build(loss=SAMPLED, id_dropout=0.5, **hyperparameters) for _ in range(2))
    fit(model, TrainingConfig(learning_rate=0.1), gen(3), evaluate=None, observe=silent, epochs=2)
    tables = {"user_id": "users", "user_content": "users", "item_id": "items"}
    sparse = torch.optim.SparseAdam([getattr(twin, name) for name in tables], lr=0.1)
    dense = torch.optim.Adam([twin.weight, twin.bias, *twin.mixing.parameters()], lr=0.1)
    draws, before, cpu = gen(3), parameters(twin), torch.device("cpu")
    near = twin.data.item_neighbours(2) if "item_item_weight" in hyperparameters else None
    for _ in range(2):
        for batch in epoch_of_batches(twin.data, SAMPLED, 0.5, draws, cpu, neighbours=near):
            twin.zero_grad()
            twin.batch_loss(batch, twin.rows(batch)).backward()
            for name, index in tables.items():
                table, rows = getattr(twin, name), getattr(batch, index)
                table.grad = torch.sparse_coo_tensor(
                    rows[None], table.grad[rows], table.shape, check_invariants=True
                ).coalesce()
            sparse.step()
            dense.step()
    for name, value in parameters(model).items():
        np.testing.assert_allclose(value, parameters(twin)[name], rtol=0, atol=2e-6, err_msg=name)
        assert np.abs(value - before[name]).max() > 0.05, name  # the tolerance is far below a step


def test_weight_decay_shrinks_whole_tables_and_not_the_projection() -> None:
    def one_step(decay: float) -> Backbone:
        model = build(loss=SampledLoss(negatives=2, batch_size=100), l2=0.0, projection_l2=0.0)
        config = TrainingConfig(learning_rate=0.01, updates="dense", weight_decay=decay)
        fit(model, config, gen(), evaluate=None, observe=silent, epochs=1)
        return model

    start, without, decayed = build(loss=SAMPLED), one_step(0.0), one_step(10.0)
    unknown = COLD  # the loss gives this row no gradient, so that only the decay moves it
    assert torch.equal(without.item_id[unknown], start.item_id[unknown])
    assert (decayed.item_id[unknown].abs() < start.item_id[unknown].abs()).all()
    assert torch.equal(without.weight, decayed.weight)


@pytest.mark.parametrize("updates", ["lazy", "dense"])
@pytest.mark.parametrize("loss", [GramianLoss(all_pairs_weight=A0), SAMPLED], ids=["gramian", "sampled"])
@pytest.mark.parametrize("mixing", [ScalarWeights, ItemAttention])
def test_a_learned_fusion_is_trained_end_to_end(
    mixing: type[Mixing], loss: GramianLoss | SampledLoss, updates: Literal["lazy", "dense"]
) -> None:
    model, seen = build(loss=loss, mixing=mixing, l2=0.0), []
    before = parameters(model)
    fit(
        model,
        TrainingConfig(learning_rate=0.05, evaluate_every=1, updates=updates),
        gen(),
        evaluate=None,
        observe=lambda e, v: seen.append(v["loss"]),
        epochs=40,
    )
    assert seen[-1] < 0.9 * seen[0]
    for name, value in parameters(model).items():
        assert np.abs(value - before[name]).max() > 0.02, name


@pytest.mark.parametrize("updates", ["lazy", "dense"])
def test_the_item_item_term_pulls_users_to_the_neighbours_of_their_items(
    updates: Literal["lazy", "dense"],
) -> None:
    def attraction(weight: float) -> float:
        hyperparameters = {"item_item_weight": weight, "item_item_neighbours": 2}
        model = build(loss=SampledLoss(negatives=4, batch_size=4), l2=0.0, **hyperparameters)
        config = TrainingConfig(learning_rate=0.05, updates=updates)
        fit(model, config, gen(), evaluate=None, observe=silent, epochs=30)
        near = model.data.item_neighbours(2)
        scores = (model.user_id @ model.item_id.T).detach()
        return float(sum((near.weight[i] * scores[u, near.index[i]]).sum() for u, i in LISTED))

    assert attraction(1.0) > attraction(0.0) + 1


@pytest.mark.parametrize("loss", [GramianLoss(), SAMPLED], ids=["gramian", "sampled"])
def test_equal_seeds_train_bitwise_equal_models(loss: GramianLoss | SampledLoss) -> None:
    def train(seed: int) -> dict[str, Tensor]:
        model = build(loss=loss, id_dropout=0.4)
        fit(model, TrainingConfig(), gen(seed), evaluate=None, observe=silent, epochs=5)
        return copy.deepcopy(model.state_dict())

    first, again, other = train(3), train(3), train(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_global_generator_plays_no_part() -> None:
    def train() -> Tensor:
        model = build(loss=SAMPLED, id_dropout=0.4)
        fit(model, TrainingConfig(), gen(), evaluate=None, observe=silent, epochs=3)
        return model.user_vectors().detach()

    torch.manual_seed(1)
    first = train()
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first, train())
    assert not torch.equal(state, torch.random.get_rng_state())


def test_training_lowers_the_loss() -> None:
    for loss in (GramianLoss(all_pairs_weight=A0), SampledLoss(negatives=20, batch_size=10)):
        model, seen = build(loss=loss, l2=0.0), []
        fit(
            model,
            TrainingConfig(learning_rate=0.05, evaluate_every=1),
            gen(),
            evaluate=None,
            observe=lambda e, v, seen=seen: seen.append(v["loss"]),
            epochs=60,
        )
        assert seen[-1] < 0.8 * seen[0]


@pytest.mark.parametrize("loss", [GramianLoss(), SAMPLED], ids=["gramian", "sampled"])
def test_a_loss_that_is_not_finite_is_a_divergence(loss: GramianLoss | SampledLoss) -> None:
    model = build(loss=loss)
    with pytest.raises(Diverged, match=r"lower training\.learning_rate"):
        fit(model, TrainingConfig(learning_rate=1e30), gen(), evaluate=None, observe=silent, epochs=6)


def test_a_divergence_is_not_reported_as_a_point_of_the_curve() -> None:
    seen: list[int] = []
    with pytest.raises(Diverged):
        fit(
            build(),
            TrainingConfig(learning_rate=1e30),
            gen(),
            evaluate=None,
            observe=lambda epoch, values: seen.append(epoch),
            epochs=6,
        )
    assert seen == []


@pytest.mark.parametrize(("epochs", "offers"), [(None, 3), (7, 3), (6, 2)])
def test_a_training_is_offered_at_every_evaluation_but_the_last(epochs: int | None, offers: int) -> None:
    saved: list[int] = []
    config = TrainingConfig(max_epochs=7, evaluate_every=2, patience=5)
    rising = iter(range(100))
    fit(
        build(),
        config,
        gen(),
        evaluate=lambda epoch, users, items: {config.monitor: float(next(rising))},
        observe=silent,
        epochs=epochs,
        save=lambda make: saved.append(make().epoch),
    )
    assert saved == [2, 4, 6][:offers]


@pytest.mark.parametrize("hyperparameters", [{}, {"loss": SAMPLED}])
def test_a_training_that_goes_on_keeps_the_best_state_and_patience_of_before(
    hyperparameters: dict[str, Any],
) -> None:
    config = TrainingConfig(max_epochs=20, evaluate_every=1, patience=2)
    worth = [0.1, 0.9, 0.3, 0.2, 1.0]  # the second is the best before patience ends with the fourth

    saved: list[FitState] = []

    def trained(values: Sequence[float], seed: int, start: FitState | None = None) -> tuple[Backbone, int]:
        model, left = build(seed=seed, **hyperparameters), iter(values)
        result = fit(
            model,
            config,
            gen(seed),
            evaluate=lambda epoch, users, items: {config.monitor: next(left)},
            observe=silent,
            start=lambda: start,
            save=lambda make: saved.append(copy.deepcopy(make())),
        )
        assert list(left) == [1.0], "patience ended with the fourth"
        return model, result

    calm, _ = trained(worth, 0)
    # Whatever the other model and generator begin with plays no part.
    model, result = trained(worth[3:], 5, saved[2])
    assert result == 2
    for name, value in calm.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def with_evaluations(model: Backbone, look: Callable[[int], None]) -> None:
    """Train six epochs, each better than the last, and ``look`` at every evaluation."""

    def evaluate(epoch: int, *_: Tensor) -> dict[str, float]:
        look(epoch)
        return {"iid/ndcg_at_20": float(epoch)}

    config = TrainingConfig(max_epochs=6, evaluate_every=2)
    fit(model, config, gen(), evaluate=evaluate, observe=silent)


def test_an_evaluation_and_what_comes_after_have_the_memory_of_the_gradients() -> None:
    model = build()

    def hold_none(_: int) -> None:
        assert all(parameter.grad is None for parameter in model.parameters())

    with_evaluations(model, hold_none)
    hold_none(0)


def test_one_best_state_is_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[weakref.ref[Tensor]] = []
    real = copy.deepcopy

    def counted(state: Any) -> Any:
        assert all(known() is None for known in copies)
        copied = real(state)
        copies.append(weakref.ref(copied["weight"]))
        return copied

    monkeypatch.setattr("painvrl.model.fit.copy", SimpleNamespace(deepcopy=counted))
    with_evaluations(build(), lambda _: None)
    assert len(copies) == 3

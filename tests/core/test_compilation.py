"""Every step function becomes one graph, and computes the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from painvrl.core.compilation import step_function
from painvrl.data.interactions import Interactions
from painvrl.invariance.coefficients import FeatureVariances
from painvrl.invariance.contrasts import draw_contrasts, plan_contrasts
from painvrl.invariance.environments import EnvironmentConfig, identify
from painvrl.invariance.gates import with_density
from painvrl.invariance.hard_em import EnvironmentModels, HardEMSettings, assign, environment_losses
from painvrl.invariance.mask import Draw, Gated, MaskConfig, gate_step, learn_mask
from painvrl.invariance.penalties import PENALTIES
from painvrl.invariance.per_user_mixture import Design, per_user_mixture_loss
from painvrl.invariance.risks import Frozen, freeze
from painvrl.invariance.shared_model import calibrate, calibration_step
from painvrl.invariance.soft_mixture import FitSample, mixture_loss
from painvrl.model.batches import Batch, epoch_of_batches
from painvrl.model.fit import TrainingConfig, fit
from painvrl.model.losses import GramianLoss, SampledLoss, SoftmaxLoss
from painvrl.model.mixing import ItemAttention, Mixing, ScalarWeights
from painvrl.model.robust import KnownEnvironments
from painvrl.model.training_data import TrainingData, training_data
from painvrl.model.ultragcn import Backbone, BackboneConfig, Rows

# What torch warns of in its own code while it traces and compiles.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
]

CPU = torch.device("cpu")
USERS, ITEMS, FEATURES, WIDTH, ENVIRONMENTS = 12, 9, 5, 4, 3


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=gen(seed))


@pytest.fixture(scope="module")
def data() -> TrainingData:
    taken = torch.rand(USERS, ITEMS, generator=gen()) < 0.4
    taken[:, 3], taken[0, 0] = False, True  # item 3 is cold
    user, item = taken.nonzero(as_tuple=True)
    return training_data(Interactions(user=user, item=item, n_users=USERS, n_items=ITEMS), CPU)


@pytest.fixture(autouse=True)
def _fresh_graphs() -> Iterator[None]:
    traced = torch._dynamo.config.trace_autograd_ops
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    assert torch._dynamo.config.trace_autograd_ops == traced  # the switch leaves nothing behind


def one_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a single graph, without the wait for a compiler."""
    return step_function(function, compiled=True, backend="aot_eager")


def assert_same(function: Callable[..., Any], *arguments: Any) -> None:
    expected, found = tree_leaves(function(*arguments)), tree_leaves(one_graph(function)(*arguments))
    assert len(expected) == len(found) > 0
    for wanted, value in zip(expected, found, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)


def backbone(data: TrainingData, loss: GramianLoss | SampledLoss, *, base: bool = False) -> Backbone:
    config = BackboneConfig(id_dim=2, content_dim=WIDTH, id_dropout=0.5, loss=loss)
    vectors = (normal(USERS, 4, seed=5), normal(ITEMS, 4, seed=6)) if base else None
    return Backbone(normal(ITEMS, FEATURES), data, config, gen(), base=vectors, base_id_dim=2 if base else 0)


def loss_and_gradients(model: Backbone, loss: Callable[..., Tensor], *arguments: Any) -> list[Tensor]:
    model.zero_grad()
    value = loss(*arguments)
    value.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return [value.detach(), *gradients]


def leaves(model: Backbone, batch: Batch) -> Rows:
    """The rows of a batch as the lazy updates see them."""
    rows = model.rows(batch)
    return Rows(
        user_id=rows.user_id.detach().requires_grad_(),
        user_content=rows.user_content.detach().requires_grad_(),
        item_id=rows.item_id.detach().requires_grad_(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("base", [False, True], ids=["backbone", "branch"])
def test_a_whole_data_step_is_one_graph(data: TrainingData, base: bool) -> None:
    model = backbone(data, GramianLoss(), base=base)
    kept = model.kept_items(gen())
    expected = loss_and_gradients(model, model.full_loss, kept)
    found = loss_and_gradients(model, one_graph(model.full_loss), kept)
    assert len(found) == 6
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["vrex", "group_dro"])
def test_a_step_on_the_risks_of_environments_is_one_graph(data: TrainingData, kind: str) -> None:
    config = BackboneConfig.model_validate({"id_dim": 2, "content_dim": WIDTH, "risks": {"kind": kind}})
    environments = KnownEnvironments(label=torch.arange(data.n_pairs) % 2, count=2)
    features = torch.randn(ITEMS, FEATURES, generator=gen())
    plain, other = (Backbone(features, data, config, gen(), environments=environments) for _ in range(2))
    expected = loss_and_gradients(plain, plain.full_loss, None)
    found = loss_and_gradients(other, one_graph(other.full_loss), None)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if kind == "group_dro":  # the weights have moved, and alike
        torch.testing.assert_close(other.log_weights, plain.log_weights, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_softmax_step_with_modality_dropout_is_one_graph(data: TrainingData) -> None:
    loss = SoftmaxLoss(negatives=4, batch_size=8)
    config = BackboneConfig(id_dim=2, content_dim=WIDTH, loss=loss, modality_dropout=0.5)
    features = torch.randn(ITEMS, FEATURES, generator=gen())
    model = Backbone(features, data, config, gen(), widths=(2, FEATURES - 2))
    compiled = one_graph(model.batch_loss)
    batches = epoch_of_batches(data, loss, 0.5, gen(), CPU, modalities=model.modality_weights)
    for batch in list(batches)[:2]:
        expected = loss_and_gradients(model, model.batch_loss, batch, leaves(model, batch))
        found = loss_and_gradients(model, compiled, batch, leaves(model, batch))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("per", ["batch", "pair"])
@pytest.mark.parametrize("base", [False, True], ids=["backbone", "branch"])
def test_a_sampled_step_is_one_graph(data: TrainingData, per: str, base: bool) -> None:
    loss = SampledLoss.model_validate({"negatives": 4, "batch_size": 8, "negatives_per": per})
    model = backbone(data, loss, base=base)
    compiled = one_graph(model.batch_loss)
    for batch in list(epoch_of_batches(data, loss, 0.5, gen(), CPU))[:3]:  # of different sizes
        expected = loss_and_gradients(model, model.batch_loss, batch, leaves(model, batch))
        found = loss_and_gradients(model, compiled, batch, leaves(model, batch))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mixing", [ScalarWeights, ItemAttention])
def test_a_step_of_a_learned_fusion_is_one_graph(data: TrainingData, mixing: type[Mixing]) -> None:
    config = BackboneConfig(id_dim=2, content_dim=WIDTH)
    model = Backbone(
        normal(ITEMS, FEATURES), data, config, gen(), gates=torch.rand(2 * FEATURES), mixing=mixing
    )
    expected = loss_and_gradients(model, model.full_loss, None)
    found = loss_and_gradients(model, one_graph(model.full_loss), None)
    assert len(found) == 7
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_step_with_the_item_item_term_is_one_graph(data: TrainingData) -> None:
    loss = SampledLoss(negatives=4, batch_size=8)
    config = BackboneConfig(id_dim=2, content_dim=WIDTH, loss=loss, item_item_weight=0.5)
    model = Backbone(normal(ITEMS, FEATURES), data, config, gen())
    near, compiled = model.item_neighbours(), one_graph(model.batch_loss)
    for batch in list(epoch_of_batches(data, loss, 0.0, gen(), CPU, neighbours=near))[:2]:
        expected = loss_and_gradients(model, model.batch_loss, batch, leaves(model, batch))
        found = loss_and_gradients(model, compiled, batch, leaves(model, batch))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_step_of_the_mixture_is_one_graph(data: TrainingData) -> None:
    offsets = normal(2, ENVIRONMENTS, FEATURES).requires_grad_()
    sample = FitSample(weights=torch.softmax(normal(USERS, ITEMS), dim=1), pairs=data.pairs)
    variant = normal(ITEMS, FEATURES, seed=1)

    def gradient(function: Callable[..., Tensor]) -> Tensor:
        (slope,) = torch.autograd.grad(function(offsets, variant, sample, 1e-4).sum(), offsets)
        return slope

    torch.testing.assert_close(
        gradient(one_graph(mixture_loss)), gradient(mixture_loss), rtol=1e-5, atol=1e-6
    )


def test_a_step_of_the_per_user_mixture_is_one_graph() -> None:
    offsets = normal(2, ENVIRONMENTS, 2 * FEATURES).requires_grad_()
    design = Design(
        rows=normal(12, 2 * FEATURES, seed=1),
        user=torch.arange(12) % USERS,
        candidates=normal(USERS, 5, 2 * FEATURES, seed=2),
    )

    def gradient(function: Callable[..., Tensor]) -> Tensor:
        (slope,) = torch.autograd.grad(function(offsets, design, 1e-3).sum(), offsets)
        return slope

    torch.testing.assert_close(
        gradient(one_graph(per_user_mixture_loss)), gradient(per_user_mixture_loss), rtol=1e-5, atol=1e-6
    )


def test_a_step_of_hard_em_is_one_graph(data: TrainingData) -> None:
    label = torch.randint(ENVIRONMENTS, (data.n_pairs,), generator=gen())
    assigned = assign(label, ENVIRONMENTS, data, 0.1)
    leaves = [
        normal(ENVIRONMENTS, USERS, 2).requires_grad_(),
        normal(ENVIRONMENTS, FEATURES, 2, seed=1).requires_grad_(),
        normal(ENVIRONMENTS, 2, seed=2).requires_grad_(),
    ]
    models = EnvironmentModels(users=leaves[0], weight=leaves[1], bias=leaves[2])
    variant = data.warm_rows(normal(ITEMS, FEATURES, seed=3))

    def gradients(function: Callable[..., Tensor]) -> list[Tensor]:
        losses = function(models, variant, assigned, HardEMSettings())
        return [losses.detach(), *torch.autograd.grad(losses.sum(), leaves)]

    torch.testing.assert_close(
        gradients(one_graph(environment_losses)), gradients(environment_losses), rtol=1e-5, atol=1e-6
    )


def some_variances() -> FeatureVariances:
    value = torch.rand(FEATURES, generator=gen())
    return FeatureVariances(value=value, naive=2 * value)


def a_mask_to_learn(data: TrainingData) -> tuple[Gated, Tensor, Frozen]:
    frozen = freeze(
        data, normal(ITEMS, FEATURES), normal(USERS, 2), normal(ITEMS, 2), normal(USERS, WIDTH), 0.1
    )
    start = Gated(mu=0.1 * normal(FEATURES), weight=normal(FEATURES, WIDTH), bias=normal(WIDTH))
    return start, torch.randint(ENVIRONMENTS, (data.n_pairs,), generator=gen()), frozen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("penalty", "balancer", "contrasts"),
    [(penalty, "mgda", "sketched") for penalty in PENALTIES.names()]
    + [("gradient_variance", "fixed", "all"), ("invrl", "mgda", "all"), ("iga", "erm", "sketched")],
)
def test_a_step_of_the_gates_is_one_graph(
    data: TrainingData, penalty: str, balancer: str, contrasts: str
) -> None:
    config = MaskConfig.model_validate({"balancer": balancer, "contrasts": contrasts, "penalty": penalty})
    at, label, frozen = a_mask_to_learn(data)
    plan, sides = (
        plan_contrasts(config.contrasts, ENVIRONMENTS, frozen.user_content),
        max(1, PENALTIES.get(config.penalty).part_pairs),
    )

    variances = some_variances()

    def step(at: Gated, noise: Tensor, part: Tensor, rows: Tensor) -> list[Tensor]:
        draw = Draw(noise=noise, sigma=torch.tensor(0.5), part=part, contrasts=rows)
        taken = gate_step(at, draw, label, plan, frozen, config, 1e-5, variances)
        return [taken.balance.direction, taken.weight_gradient, taken.bias_gradient, taken.penalty]

    part = torch.randint(2 * sides, (data.n_pairs,), generator=gen(1))
    rows = torch.stack([draw_contrasts(plan, gen(side)) for side in range(sides)]).float()
    assert_same(step, at, normal(FEATURES, seed=2), part, rows)


def test_upgrad_whose_solver_is_on_the_host_is_not_compiled(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchjd")
    asked: dict[str, bool] = {}

    def noting(function: Callable[..., Any], *, compiled: bool) -> Callable[..., Any]:
        asked[function.__name__] = compiled
        return function

    monkeypatch.setattr("painvrl.invariance.mask.step_function", noting)
    start, label, frozen = a_mask_to_learn(data)
    for balancer, wanted in (("upgrad", False), ("mgda", True)):
        config = MaskConfig.model_validate({"balancer": balancer, "steps": 2})
        learn_mask(
            start,
            label,
            ENVIRONMENTS,
            frozen,
            config,
            projection_l2=0.0,
            seed=0,
            variances=some_variances(),
            compiled=True,
        )
        assert asked == {"gate_step": wanted, "with_density": True}


def test_a_step_of_the_calibration_is_one_graph() -> None:
    scores, degree = normal(USERS, ITEMS), torch.arange(1.0, USERS + 1)
    assert_same(
        calibration_step,
        torch.tensor([1.0, 0.1]),
        scores,
        normal(ITEMS, seed=1).abs(),
        degree,
        torch.tensor(20.0),
        torch.tensor(30.0),
    )


def test_finding_the_density_is_one_graph() -> None:
    assert_same(lambda mu: with_density(mu, 0.3, 0.4), normal(FEATURES))


def test_a_step_that_asks_the_host_is_no_single_graph() -> None:
    with pytest.raises(Exception, match=r"(?i)data-dependent"):
        one_graph(lambda x: x * 2 if x.sum() > 0 else x)(normal(3))


@pytest.mark.slow
def test_a_study_may_turn_a_width_as_often_as_it_likes(data: TrainingData) -> None:
    torch._dynamo.utils.counters.clear()
    for width in range(2, 14):
        config = BackboneConfig(id_dim=width, content_dim=WIDTH, loss=GramianLoss())
        model = Backbone(normal(ITEMS, FEATURES), data, config, gen())
        found = loss_and_gradients(model, one_graph(model.full_loss), None)
        torch.testing.assert_close(
            found, loss_and_gradients(model, model.full_loss, None), rtol=1e-5, atol=1e-6
        )
    # A graph a width would compile for ever: from the second or third on, they share one.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3


def test_without_the_switch_a_step_function_is_itself() -> None:
    assert step_function(with_density, compiled=False) is with_density


needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU"
)


@pytest.fixture
def _fresh_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("_fresh_kernels")
@pytest.mark.parametrize(
    "loss", [GramianLoss(), SampledLoss(batch_size=16, negatives=4)], ids=lambda c: c.kind
)
def test_compiled_training_is_the_same_training(data: TrainingData, loss: GramianLoss | SampledLoss) -> None:
    trained = []
    for compiled in (False, True):
        model = backbone(data, loss)
        config = TrainingConfig(compile=compiled)
        fit(model, config, gen(), evaluate=None, observe=lambda epoch, values: None, epochs=4)
        trained.append(dict(model.state_dict()))
    torch.testing.assert_close(trained[0], trained[1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("_fresh_kernels")
def test_compiled_environments_and_masks_are_the_same(data: TrainingData) -> None:
    users, items = normal(USERS, 4, seed=1), normal(ITEMS, 4, seed=2)
    shared = calibrate(users, items, data, gen())
    variant = normal(ITEMS, FEATURES)
    frozen = freeze(data, variant, normal(USERS, 3), normal(ITEMS, 3), normal(USERS, WIDTH), 0.1)
    start = Gated(mu=torch.zeros(FEATURES), weight=normal(FEATURES, WIDTH), bias=torch.zeros(WIDTH))
    found = []
    for compiled in (False, True):
        config = EnvironmentConfig(count=ENVIRONMENTS, steps=5)
        environments = identify(variant, shared, data, config, gen(), compiled=compiled)
        mask = learn_mask(
            start,
            environments.label,
            ENVIRONMENTS,
            frozen,
            MaskConfig(steps=4),
            projection_l2=1e-5,
            seed=0,
            compiled=compiled,
        )
        found.append([environments.offsets, mask.learned.mu, mask.learned.weight])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)

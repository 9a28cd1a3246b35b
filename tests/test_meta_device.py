"""One step of every stage on the ``meta`` device, which has shapes and no values.

A step that reads a value back, or mixes the device with the CPU, stalls a GPU; here it fails. Random
draws come from CPU generators and are copied to the device, which is no read-back, and an optimiser
keeps its step counts as 0-dim CPU tensors; both are exempt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from painvrl.data.dataset import Modality
from painvrl.data.features import FeatureConfig, FeatureRows
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.evaluation.protocol import EvaluationConfig
from painvrl.evaluation.ranking import DotProducts, RankingPlan, evaluate, plan_ranking, top_hits
from painvrl.invariance.coefficients import FeatureVariances, feature_variances, fit_coefficients
from painvrl.invariance.contrasts import draw_contrasts, plan_contrasts
from painvrl.invariance.environments import EnvironmentConfig, identify
from painvrl.invariance.gates import final_mask, sample_gates, with_density
from painvrl.invariance.hard_em import (
    EnvironmentModels,
    HardEMSettings,
    assign,
    environment_losses,
    environment_scores,
)
from painvrl.invariance.mask import Draw, Gated, MaskConfig, gate_step, learn_mask
from painvrl.invariance.pareto import BALANCERS, balance
from painvrl.invariance.penalties import PENALTIES
from painvrl.invariance.per_user_mixture import per_user_posterior
from painvrl.invariance.risks import freeze
from painvrl.invariance.shared_model import Affinities, SharedModel, UserSample, calibration_step
from painvrl.invariance.soft_mixture import (
    FitSample,
    MixtureSettings,
    OffsetKind,
    mixture_loss,
    posterior,
)
from painvrl.model.batches import epoch_of_batches
from painvrl.model.fit import TrainingConfig, fit
from painvrl.model.losses import GramianLoss, SampledLoss, SoftmaxLoss
from painvrl.model.mixing import ItemAttention, Mixing, ScalarWeights, Sum
from painvrl.model.robust import GroupDRO, KnownEnvironments, RiskExtrapolation
from painvrl.model.streamed import StreamedFeatures
from painvrl.model.training_data import TrainingData, training_data
from painvrl.model.ultragcn import Backbone, BackboneConfig

CPU, META = torch.device("cpu"), torch.device("meta")
T = TypeVar("T")
aten = torch.ops.aten

COPIES = {aten._to_copy.default, aten.copy_.default}
READ_BACKS = {  # their result, or its shape, must be known on the host
    aten._local_scalar_dense.default,
    aten.bincount.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.nonzero_numpy.default,
    aten.repeat_interleave.Tensor,
    aten.unique_dim.default,
    aten._unique2.default,
}


class ReadBack(AssertionError):
    """A value left the device."""


class DevicesMixed(AssertionError):
    """An operation saw tensors of two devices."""


class DoublePrecision(AssertionError):
    """A float64 tensor on the device; Apple's devices have none."""


class Guard(TorchDispatchMode):
    """Fails on an operation that would stall an accelerator; counts Adam's updates on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.updates = 0
        self.operations = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = [tensor for tensor in given if tensor.device == META]
        self.operations += bool(on_device)
        if on_device:
            if operation in READ_BACKS:
                raise ReadBack(str(operation))
            if operation is aten.index.Tensor and any(
                mask is not None and mask.dtype == torch.bool for mask in args[1]
            ):
                raise ReadBack("indexing with a boolean mask asks the device how much is true")
            if operation is aten._to_copy.default and kwargs.get("device", META) != META:
                raise ReadBack(str(operation))
            elsewhere = [tensor for tensor in given if tensor.device != META and tensor.ndim > 0]
            if elsewhere and operation not in COPIES:
                raise DevicesMixed(f"{operation} with a tensor on {elsewhere[0].device}")
            if operation is aten.copy_.default and args[0].device != META:
                raise ReadBack(str(operation))
        self.updates += operation is aten.addcdiv_.default and bool(on_device)
        out = operation(*args, **kwargs)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.device == META and leaf.dtype == torch.float64:
                raise DoublePrecision(str(operation))
        return out


def on_meta(thing: T) -> T:
    """The same dataclasses and tuples with every tensor on the ``meta`` device."""
    if isinstance(thing, Tensor):
        return thing.to(META)  # type: ignore[return-value]
    if isinstance(thing, tuple):
        return tuple(on_meta(part) for part in thing)  # type: ignore[return-value]
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        moved = {f.name: on_meta(getattr(thing, f.name)) for f in dataclasses.fields(thing) if f.init}
        return dataclasses.replace(thing, **moved)
    return thing


USERS, ITEMS, FEATURES, WIDTH, ENVIRONMENTS = 6, 8, 5, 3, 3


def gen() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def interactions() -> Interactions:
    taken = torch.rand(USERS, ITEMS, generator=gen()) < 0.4
    taken[0, 0] = True
    user, item = taken.nonzero(as_tuple=True)
    return Interactions(user=user, item=item, n_users=USERS, n_items=ITEMS)


@pytest.fixture
def data() -> TrainingData:
    """Indexed on the CPU, as before a training, and then moved."""
    there = training_data(interactions(), CPU)
    return dataclasses.replace(on_meta(there), host=there.host)


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as mode:
        yield mode
    assert mode.operations > 0


def meta(*shape: int) -> Tensor:
    return torch.empty(shape, device=META)


def labels(data: TrainingData) -> Tensor:
    return torch.zeros(data.n_pairs, dtype=torch.long, device=META)


def backbone(
    data: TrainingData,
    loss: GramianLoss | SampledLoss | SoftmaxLoss,
    *,
    base: bool = False,
    mixing: type[Mixing] = Sum,
    item_item_weight: float = 0.0,
    modality_dropout: float = 0.0,
) -> Backbone:
    config = BackboneConfig(
        id_dim=2,
        content_dim=WIDTH,
        id_dropout=0.5,
        loss=loss,
        item_item_weight=item_item_weight,
        modality_dropout=modality_dropout,
    )
    vectors = (meta(USERS, 4), meta(ITEMS, 4)) if base else None
    gates = None if mixing is Sum else meta(2 * FEATURES)
    return Backbone(
        meta(ITEMS, FEATURES),
        data,
        config,
        gen(),
        gates=gates,
        base=vectors,
        base_id_dim=2 if base else 0,
        mixing=mixing,
        widths=(3, FEATURES - 3),
    )


def shared_model(data: TrainingData) -> SharedModel:
    return SharedModel(
        users=meta(USERS, 4),
        items=meta(ITEMS, 4),
        log_degree=meta(ITEMS),
        warm=torch.empty(ITEMS, dtype=torch.bool, device=META),
        temperature=meta(),
        popularity=meta(),
    )


def plan() -> RankingPlan:
    part = Part(name="iid", interactions=interactions(), candidates=torch.ones(ITEMS, dtype=torch.bool))
    return on_meta(plan_ranking([part], [], EvaluationConfig(ks=(2, 5), block_cells=4 * ITEMS), CPU))


def silent(epoch: int, values: Mapping[str, float]) -> None:
    pass


def trained(loss: GramianLoss | SampledLoss | SoftmaxLoss) -> int:
    """How many tensors a step updates: a softmax trains no bias."""
    return 4 if isinstance(loss, SoftmaxLoss) else 5


@pytest.mark.parametrize("base", [False, True], ids=["backbone", "branch"])
@pytest.mark.parametrize(
    "loss",
    [
        GramianLoss(),
        SampledLoss(negatives=4, batch_size=5),
        SampledLoss(negatives=4, batch_size=5, negatives_per="pair"),
        SoftmaxLoss(negatives=4, batch_size=5),
    ],
    ids=["gramian", "sampled", "sampled-per-pair", "softmax"],
)
def test_a_training_step_stays_on_the_device(
    data: TrainingData, guard: Guard, loss: GramianLoss | SampledLoss | SoftmaxLoss, base: bool
) -> None:
    model = backbone(data, loss, base=base)
    optimizer = torch.optim.Adam(model.parameters())
    kept = model.kept_items(gen())
    optimizer.zero_grad(set_to_none=True)
    if isinstance(loss, GramianLoss):
        model.full_loss(kept).backward()
    else:
        (batch, *_) = epoch_of_batches(data, loss, 0.5, gen(), META)
        model.batch_loss(batch, model.rows(batch)).backward()
    optimizer.step()
    assert guard.updates == trained(loss)
    assert model.weight.grad is not None
    assert model.weight.grad.device == META


@pytest.mark.parametrize(
    "loss", [GramianLoss(), SampledLoss(negatives=4, batch_size=5)], ids=["gramian", "sampled"]
)
@pytest.mark.parametrize("mixing", [ScalarWeights, ItemAttention])
def test_a_step_of_a_learned_fusion_stays_on_the_device(
    data: TrainingData, guard: Guard, loss: GramianLoss | SampledLoss, mixing: type[Mixing]
) -> None:
    model = backbone(data, loss, mixing=mixing)
    with pytest.raises(ReadBack):  # the loss of the first epoch, at its evaluation
        fit(model, TrainingConfig(), gen(), evaluate=None, observe=silent, epochs=1)
    steps = 1 if isinstance(loss, GramianLoss) else -(-data.n_pairs // 5)
    assert guard.updates == 6 * steps


def streamed() -> StreamedFeatures:
    """Features on the CPU that pass the device in blocks."""
    values = torch.randn(ITEMS, FEATURES, generator=gen())
    modality = Modality(values=values, present=torch.ones(ITEMS, dtype=torch.bool))
    config = FeatureConfig(standardise=True)
    return StreamedFeatures(made=FeatureRows.of({"a": modality}, modality.present, config), device=META)


@pytest.mark.parametrize(
    "loss", [GramianLoss(), SampledLoss(negatives=4, batch_size=5)], ids=["gramian", "sampled"]
)
def test_a_step_on_streamed_features_reads_nothing_back(
    guard: Guard, loss: GramianLoss | SampledLoss, monkeypatch: pytest.MonkeyPatch, data: TrainingData
) -> None:
    monkeypatch.setattr("painvrl.model.streamed.BLOCK_BYTES", 4 * FEATURES * 3)
    config = BackboneConfig(id_dim=2, content_dim=WIDTH, id_dropout=0.5, loss=loss)
    model = Backbone(streamed(), data, config, gen())
    with pytest.raises(ReadBack):  # the loss of the first epoch, at its evaluation
        fit(model, TrainingConfig(), gen(), evaluate=None, observe=silent, epochs=1)
    steps = 1 if isinstance(loss, GramianLoss) else -(-data.n_pairs // 5)
    assert guard.updates == 5 * steps


def test_a_step_over_blocks_of_users_reads_nothing_back(guard: Guard) -> None:
    there = training_data(interactions(), CPU, block_users=2)
    data = dataclasses.replace(on_meta(there), host=there.host)
    model = backbone(data, GramianLoss())
    with pytest.raises(ReadBack):
        fit(model, TrainingConfig(evaluate_every=3), gen(), evaluate=None, observe=silent, epochs=3)
    assert len(data.user_blocks) == 3
    assert guard.updates == 3 * 5


def test_learning_a_mask_of_streamed_features_reads_nothing_back(
    data: TrainingData, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("painvrl.model.streamed.BLOCK_BYTES", 4 * FEATURES * 3)
    frozen = freeze(data, streamed(), meta(USERS, 2), meta(ITEMS, 2), meta(USERS, WIDTH), 0.1)
    start = Gated(mu=meta(FEATURES), weight=meta(FEATURES, WIDTH), bias=meta(WIDTH))
    with pytest.raises(ReadBack):  # whether the gates are finite
        learn_mask(start, labels(data), ENVIRONMENTS, frozen, MaskConfig(steps=2), projection_l2=0.0, seed=0)
    assert guard.updates == 2 * 2


@pytest.mark.parametrize("updates", ["lazy", "dense"])
def test_a_step_with_the_item_item_term_stays_on_the_device(
    data: TrainingData, guard: Guard, updates: str
) -> None:
    model = backbone(data, SampledLoss(negatives=4, batch_size=5), item_item_weight=0.5)
    config = TrainingConfig.model_validate({"updates": updates})
    with pytest.raises(ReadBack):
        fit(model, config, gen(), evaluate=None, observe=silent, epochs=1)
    assert guard.updates == 5 * -(-data.n_pairs // 5)


@pytest.mark.parametrize("updates", ["lazy", "dense"])
@pytest.mark.parametrize(
    ("loss", "steps"),
    [
        (GramianLoss(), 1),
        (SampledLoss(negatives=4, batch_size=5), None),
        (SoftmaxLoss(negatives=4, batch_size=5), None),
    ],
    ids=["gramian", "sampled", "softmax"],
)
@pytest.mark.parametrize("modality_dropout", [0.0, 0.5])
def test_training_reads_nothing_back_before_its_evaluation(
    data: TrainingData,
    guard: Guard,
    loss: GramianLoss | SampledLoss | SoftmaxLoss,
    steps: int | None,
    updates: str,
    modality_dropout: float,
) -> None:
    steps = steps or -(-data.n_pairs // 5)
    model = backbone(data, loss, modality_dropout=modality_dropout)
    config = TrainingConfig.model_validate({"evaluate_every": 3, "updates": updates})
    with pytest.raises(ReadBack):  # the loss of the third epoch, at its evaluation
        fit(model, config, gen(), evaluate=None, observe=silent, epochs=3)
    assert guard.updates == 3 * steps * trained(loss)


@pytest.mark.parametrize("risks", [RiskExtrapolation(), GroupDRO()], ids=["vrex", "group_dro"])
def test_a_step_on_the_risks_of_environments_stays_on_the_device(
    data: TrainingData, guard: Guard, risks: RiskExtrapolation | GroupDRO
) -> None:
    config = BackboneConfig(id_dim=2, content_dim=WIDTH, risks=risks)
    environments = KnownEnvironments(label=labels(data), count=ENVIRONMENTS)
    model = Backbone(meta(ITEMS, FEATURES), data, config, gen(), environments=environments)
    with pytest.raises(ReadBack):  # the loss of the third epoch, at its evaluation
        fit(model, TrainingConfig(evaluate_every=3), gen(), evaluate=None, observe=silent, epochs=3)
    assert guard.updates == 3 * 5


def test_a_calibration_step_stays_on_the_device(guard: Guard) -> None:
    taken = calibration_step(meta(2), meta(USERS, ITEMS), meta(ITEMS), meta(USERS), meta(), meta())
    assert taken.device == META
    assert taken.shape == (2,)


def test_an_identification_step_stays_on_the_device(data: TrainingData, guard: Guard) -> None:
    offsets = meta(3, ENVIRONMENTS, FEATURES).requires_grad_()
    sample = FitSample(weights=meta(USERS, ITEMS), pairs=data.pairs)
    optimizer = torch.optim.Adam([offsets])
    mixture_loss(offsets, meta(ITEMS, FEATURES), sample, 1e-4).sum().backward()
    optimizer.step()
    assert guard.updates == 1


@pytest.mark.parametrize("offset", get_args(OffsetKind))
def test_identification_reads_nothing_back_before_its_fit_is_done(
    data: TrainingData, guard: Guard, offset: OffsetKind
) -> None:
    config = EnvironmentConfig(logit_offset=offset, steps=7, min_share=0.0)
    with pytest.raises(ReadBack):  # which restart is the likeliest
        identify(meta(ITEMS, FEATURES), shared_model(data), data, config, gen(), affinities=affinities())
    assert guard.updates == 7


@pytest.mark.parametrize("offset", ["per_user", "both"])
def test_the_posterior_of_per_user_offsets_stays_on_the_device(
    data: TrainingData, guard: Guard, offset: OffsetKind
) -> None:
    offsets = meta(ENVIRONMENTS, FEATURES * (2 if offset == "both" else 1))
    settings = MixtureSettings(logit_offset=offset)
    found = per_user_posterior(
        meta(ITEMS, FEATURES), shared_model(data), affinities(), data, offsets, settings
    )
    assert found.shape == (data.n_pairs, ENVIRONMENTS)
    assert found.device == META


def test_the_posterior_stays_on_the_device(data: TrainingData, guard: Guard) -> None:
    found = posterior(meta(ITEMS, FEATURES), shared_model(data), data, meta(ENVIRONMENTS, FEATURES)).argmax(
        dim=1
    )
    assert found.shape == (data.n_pairs,)
    assert found.device == META


def affinities() -> Affinities:
    return Affinities(user_content=meta(USERS, WIDTH), weight=meta(FEATURES, WIDTH))


def environment_models() -> EnvironmentModels:
    return EnvironmentModels(
        users=meta(ENVIRONMENTS, USERS, WIDTH).requires_grad_(),
        weight=meta(ENVIRONMENTS, FEATURES, WIDTH).requires_grad_(),
        bias=meta(ENVIRONMENTS, WIDTH).requires_grad_(),
    )


def test_a_step_of_hard_em_stays_on_the_device(guard: Guard) -> None:
    there = training_data(interactions(), CPU)
    label = torch.arange(there.n_pairs) % ENVIRONMENTS
    assigned = on_meta(assign(label, ENVIRONMENTS, there, 0.1))  # made once a relabelling
    models = environment_models()
    optimizer = torch.optim.Adam([models.users, models.weight, models.bias])
    variant = meta(there.warm_items.shape[0], FEATURES)
    environment_losses(models, variant, assigned, HardEMSettings()).sum().backward()
    optimizer.step()
    assert guard.updates == 3


def test_the_scores_of_hard_em_stay_on_the_device(data: TrainingData, guard: Guard) -> None:
    variant = meta(data.warm_items.shape[0], FEATURES)
    found = environment_scores(environment_models(), variant, data.warm_pairs)
    assert found.shape == (data.n_pairs, ENVIRONMENTS)
    assert found.device == META


def a_gate_step(data: TrainingData, balancer: str, penalty: str) -> Tensor:
    config = MaskConfig.model_validate({"balancer": balancer, "penalty": penalty})
    frozen = freeze(data, meta(ITEMS, FEATURES), meta(USERS, 2), meta(ITEMS, 2), meta(USERS, WIDTH), 0.1)
    at = Gated(mu=meta(FEATURES), weight=meta(FEATURES, WIDTH), bias=meta(WIDTH))
    plan = plan_contrasts("sketched", ENVIRONMENTS, frozen.user_content)
    draw = Draw(noise=torch.randn(FEATURES, generator=gen()).to(META), sigma=meta())
    variances = FeatureVariances(value=meta(FEATURES), naive=meta(FEATURES))
    sides = PENALTIES.get(config.penalty).part_pairs
    if sides > 0:
        draw = dataclasses.replace(
            draw,
            part=torch.randint(2 * sides, (data.n_pairs,), generator=gen()).to(META),
            contrasts=torch.stack([draw_contrasts(plan, gen()) for _ in range(sides)]).float().to(META),
        )
    each = torch.arange(FEATURES).to(META)  # a gate a feature, by its group
    taken = gate_step(at, draw, labels(data), plan, frozen, config, 1e-5, variances, each)
    for tensor in (taken.balance.direction, taken.balance.epsilon, taken.balance.cosine, taken.risk):
        assert tensor.device == META
    return taken.balance.direction


@pytest.mark.parametrize("balancer", [name for name in BALANCERS.names() if name != "upgrad"])
@pytest.mark.parametrize("penalty", PENALTIES.names())
def test_a_gate_step_stays_on_the_device(
    data: TrainingData, guard: Guard, balancer: str, penalty: str
) -> None:
    assert a_gate_step(data, balancer, penalty).shape == (FEATURES,)


def test_a_gate_step_of_upgrad_asks_the_host_for_its_weights(data: TrainingData, guard: Guard) -> None:
    pytest.importorskip("torchjd")
    with pytest.raises(ReadBack):  # its solver runs there: the one exception
        a_gate_step(data, "upgrad", "gradient_variance")


@pytest.mark.parametrize("penalty", ["coefficient_variance", "gradient_variance"])
def test_learning_a_mask_reads_nothing_back_before_its_last_step(
    data: TrainingData, guard: Guard, penalty: str
) -> None:
    frozen = freeze(data, meta(ITEMS, FEATURES), meta(USERS, 2), meta(ITEMS, 2), meta(USERS, WIDTH), 0.1)
    start = Gated(mu=meta(FEATURES), weight=meta(FEATURES, WIDTH), bias=meta(WIDTH))
    config = MaskConfig.model_validate({"steps": 4, "penalty": penalty})
    variances = FeatureVariances(value=meta(FEATURES), naive=meta(FEATURES))
    with pytest.raises(ReadBack):  # whether the gates are finite
        learn_mask(
            start,
            labels(data),
            ENVIRONMENTS,
            frozen,
            config,
            projection_l2=0.0,
            seed=0,
            variances=variances,
        )
    assert guard.updates == 4 * 2


def test_the_variances_of_the_coefficients_stay_on_the_device(data: TrainingData, guard: Guard) -> None:
    users, places = torch.arange(USERS).to(META), torch.arange(data.n_pairs).to(META)
    sample = UserSample(users=users, kept=places, pairs=data.pairs)
    label, features = labels(data), meta(ITEMS, FEATURES)
    found = feature_variances(
        fit_coefficients(features, shared_model(data), affinities(), sample, label, label % 2, ENVIRONMENTS)
    )
    for tensor in (found.value, found.naive):
        assert tensor.shape == (FEATURES,)
        assert tensor.device == META


@pytest.mark.parametrize(
    "act",
    [
        lambda: sample_gates(meta(FEATURES), 0.5, meta(FEATURES)),
        lambda: with_density(meta(FEATURES), 0.5, 0.35),
        lambda: final_mask(meta(FEATURES), 0.4),
        lambda: balance(meta(FEATURES), meta(FEATURES), 10.0, "mgda").direction,
    ],
    ids=["sample_gates", "with_density", "final_mask", "balance"],
)
def test_the_maths_of_the_mask_stays_on_the_device(guard: Guard, act: Callable[[], Tensor]) -> None:
    found = act()
    assert found.device == META
    assert found.shape == (FEATURES,)


def test_ranking_stays_on_the_device(guard: Guard) -> None:
    prepared = plan()
    (hits,) = top_hits(prepared, DotProducts(meta(USERS, 4), meta(ITEMS, 4)))
    assert hits.shape == (sum(len(block.users) for block in prepared.blocks), 5)
    assert hits.device == META


def test_an_evaluation_reads_back_its_hits_alone(guard: Guard) -> None:
    prepared = plan()
    assert len(prepared.blocks) == 2
    ranked = []
    count = aten.topk.default

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(
            self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            ranked.extend([operation] * (operation is count))
            return operation(*args, **(kwargs or {}))

    with Counting(), pytest.raises(ReadBack):
        evaluate(prepared, meta(USERS, 4), meta(ITEMS, 4))
    assert len(ranked) == 2  # every block was ranked before anything left the device


def a_step(bad: Callable[[Tensor], object]) -> None:
    """A training step with one more thing in it."""
    weight = meta(3).requires_grad_()
    optimizer = torch.optim.Adam([weight])
    loss = weight.square().sum()
    bad(loss)
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("bad", "failure"),
    [
        (lambda loss: loss.detach().item(), ReadBack),
        (lambda loss: float(loss.detach()), ReadBack),
        (lambda loss: bool(loss.detach() > 0), ReadBack),
        (lambda loss: loss.detach().cpu(), ReadBack),
        (lambda loss: torch.empty(()).copy_(loss.detach()), ReadBack),
        (lambda loss: meta(4).nonzero(), ReadBack),
        (lambda loss: meta(4)[meta(4) > 0], ReadBack),
        (lambda loss: torch.bincount(torch.empty(4, dtype=torch.long, device=META)), ReadBack),
        (lambda loss: loss.detach() * torch.ones(3), DevicesMixed),
        (lambda loss: meta(4, 2)[torch.tensor([0, 1])], DevicesMixed),
        (lambda loss: loss.detach().double(), DoublePrecision),
    ],
    ids=["item", "float", "bool", "cpu", "copy", "nonzero", "mask", "bincount", "mixed", "index", "double"],
)
def test_the_guard_fails_a_step_that_stalls(
    guard: Guard, bad: Callable[[Tensor], object], failure: type[AssertionError]
) -> None:
    with pytest.raises(failure):
        a_step(bad)


def test_the_guard_lets_draws_of_cpu_generators_and_the_optimisers_counts_pass(guard: Guard) -> None:
    a_step(lambda loss: meta(3) * torch.rand(3, generator=gen()).to(META, non_blocking=True))
    assert guard.updates == 1

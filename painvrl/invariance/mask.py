"""Module 2, the invariant mask: gates learned as a Pareto step between empirical and invariant risk.

Users and ID embeddings stay at the pretrained values; the projection ``W`` and the gates' ``mu``
learn. ``W`` follows the empirical risk; ``mu`` follows the balance of :mod:`painvrl.invariance.pareto`.

Shape letters: ``F`` features, ``G`` gates, ``E`` environments, ``k`` content width, ``N`` interactions. A
feature has a gate of its own, ``G = F``, but where ``groups`` makes one stand for several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from painvrl.core import interrupts
from painvrl.core.compilation import step_function
from painvrl.core.device import to_device
from painvrl.core.errors import ConfigError, Diverged
from painvrl.core.registry import NameIn
from painvrl.core.rng import generator
from painvrl.core.settings import Settings
from painvrl.invariance.coefficients import FeatureVariances
from painvrl.invariance.contrasts import (
    ContrastChoice,
    ContrastPlan,
    chosen_kind,
    draw_contrasts,
    plan_contrasts,
)
from painvrl.invariance.gates import (
    Grain,
    attention,
    closed_gates,
    final_mask,
    gate_groups,
    sample_gates,
    spread,
    with_density,
)
from painvrl.invariance.pareto import BALANCERS, Balance, balance
from painvrl.invariance.penalties import PENALTIES, Estimate, Seen
from painvrl.invariance.risks import Frozen, empirical_risk, score


class MaskConfig(Settings):
    """How the mask is learned.

    Balancers are in :mod:`painvrl.invariance.pareto`; penalties in :mod:`painvrl.invariance.penalties` and,
    for ``coefficient_variance``, :mod:`painvrl.invariance.coefficients`; contrasts in
    :mod:`painvrl.invariance.contrasts`.
    """

    source: Literal["learned", "ones", "given", "half", "random"] = "learned"
    """``learned``; ``ones`` keeps every feature; ``given`` takes the data set's own mask (planted data only).
    ``half`` fixes 1/2 for all; ``random`` closes as many gates as ``sparsity`` says, whichever.
    """
    form: Literal["gates", "attention"] = "gates"
    """Stochastic ``gates``, or ``attention`` over modalities (our reading of the paper's abstract), which
    closes none and needs ``groups: modality``.
    """
    groups: Grain = "feature"
    """What a gate opens and closes: one ``feature``, a whole ``modality``, or ``blocks`` of neighbouring
    features of a modality.
    """
    block_width: int = Field(default=32, ge=1)
    """Features of a block."""
    sparsity: float = Field(default=0.5, ge=0, lt=1)
    """Share of the gates that end closed."""
    irm_weight: float = Field(default=100.0, gt=0)
    """``lambda``, the wanted ratio of the penalty's descent to the risk's."""
    balancer: Annotated[str, NameIn(BALANCERS)] = "mgda"
    """How the gradients of risk and penalty become one direction. ``upgrad`` needs the extra ``torchjd``."""
    penalty: Annotated[str, NameIn(PENALTIES)] = "gradient_variance"
    """Which penalty measures how the effect of features differs between environments."""
    contrasts: ContrastChoice = "auto"
    """How penalties on gradients compare environments: ``all`` contrasts exactly, a cheaper ``sketched``
    sample, or ``auto``: exactly while that is cheap.
    """
    steps: int = Field(default=60, ge=1)
    """Steps of the gates in each round."""
    gate_rate: float = Field(default=0.05, gt=0)
    """Step size of the gates. Gradients, which shrink with the number of gates, are multiplied by it."""
    learning_rate: float = Field(default=0.02, gt=0)
    """Step size of Adam on the projection ``W``."""
    sigma: float = Field(default=0.5, gt=0)
    """Deviation of the gates' noise at the first step; it falls linearly from there."""
    final_sigma: float = Field(default=0.1, gt=0)
    """Deviation of the gates' noise at the last step."""

    @field_validator("balancer")
    @classmethod
    def _balancer_is_installed(cls, balancer: str) -> str:
        missing = BALANCERS.get(balancer).missing()
        if missing is not None:
            raise ValueError(missing)
        return balancer

    @model_validator(mode="after")
    def _attends_to_modalities(self) -> Self:
        if self.form == "attention" and self.groups != "modality":
            raise ValueError(f"form 'attention' needs groups 'modality' (found {self.groups!r})")
        if self.form == "attention" and self.source == "random":
            raise ValueError("source 'random' closes gates, and form 'attention' closes none; take 'gates'")
        return self

    @property
    def closes(self) -> float:
        """The share of the gates that end closed: ``sparsity``, which attention does not read."""
        return 0.0 if self.form == "attention" else self.sparsity

    @property
    def reads_variances(self) -> bool:
        """Whether a step reads how differently the environments weigh each feature."""
        return BALANCERS.get(self.balancer).reads_penalty and PENALTIES.get(self.penalty).reads_variances


def count_gates(widths: Iterable[int], config: MaskConfig) -> tuple[Tensor | None, int]:
    """``[F]`` the gate of each feature, ``None`` where each has its own, and how many gates there are.

    Args:
        widths: features of each modality, in their order.
        config: see :class:`MaskConfig`.

    Raises:
        ConfigError: all of them would be closed.
    """
    widths = tuple(widths)
    group = gate_groups(widths, config.groups, config.block_width)
    n_gates = sum(widths) if group is None else int(group[-1]) + 1
    if closed_gates(n_gates, config.closes) == n_gates:
        rule = f"closes all of the {n_gates} gates of mask.groups {config.groups!r}"
        raise ConfigError(rule, key="mask.sparsity", value=config.sparsity)
    return group, n_gates


@dataclass(frozen=True, kw_only=True)
class Gated:
    """What module 2 learns: ``mu`` ``[G]``, ``weight`` ``[F, k]`` and ``bias`` ``[k]`` of the projection."""

    mu: Tensor
    weight: Tensor
    bias: Tensor


MEASURED = ("risk", "penalty", "epsilon", "cosine")
"""What every step measures: the empirical risk; the penalty, an unbiased estimate that may be negative; the
weight of the risk in the min-norm point; and the cosine between the two gradients."""


@dataclass(frozen=True, kw_only=True)
class MaskState:
    """The learned mask and how it came about.

    Attributes:
        mask: ``[F]`` in [0, 1]; exactly ``round(sparsity G)`` gates are 0, and none of attention's.
        learned: the next round starts from it.
        measured: by the names of :data:`MEASURED`, the mean over the last quarter of the steps.
        trace: by the same names, ``[S]`` numbers, one a step.
    """

    mask: Tensor
    learned: Gated
    measured: Mapping[str, float]
    trace: Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class MaskSteps:
    """The learning of a mask between two steps: all that the next ones depend on.

    Attributes:
        step: so many are done.
        gated: the parameters.
        optimizer: its state.
        generator: the state of the generator of noise, parts and contrasts.
        log: ``[S, 4]``, what the first ``step`` of the steps measured.
    """

    step: int
    gated: Gated
    optimizer: Mapping[str, Any]
    generator: Tensor
    log: Tensor

    @property
    def place(self) -> str:
        """How far it is, for people."""
        return f"step {self.step}"


torch.serialization.add_safe_globals([MaskSteps, Gated])  # a file of a run's state may hold them


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The randomness of one step.

    Attributes:
        noise: ``[G]`` from N(0, 1). sigma: 0-dim, how much of it the gates see.
        part: ``[N]`` in ``[0, 2 S)``, which part of its environment each pair falls in.
        contrasts: ``[S, B, E]`` (:class:`painvrl.invariance.penalties.Seen`); both ``None``
            for a penalty that no step estimates.
    """

    noise: Tensor
    sigma: Tensor
    part: Tensor | None = None
    contrasts: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class GateStep:
    """The gradients of one step; all on the device."""

    balance: Balance
    weight_gradient: Tensor
    bias_gradient: Tensor
    risk: Tensor
    penalty: Tensor


# A penalty below this share of its naive estimate is indistinguishable from noise; dividing by
# less would make a gradient of noise arbitrarily long.
_PENALTY_FLOOR = 0.01


def gate_step(
    at: Gated,
    draw: Draw,
    label: Tensor,
    plan: ContrastPlan,
    frozen: Frozen,
    config: MaskConfig,
    projection_l2: float,
    variances: FeatureVariances | None = None,
    group: Tensor | None = None,
) -> GateStep:
    """One evaluation of both risks at sampled gates, and the balanced direction on ``mu``.

    Args:
        at: the parameters.
        draw: the step's randomness.
        label: ``[N]`` environments of the training pairs.
        plan: which columns see which contrast.
        frozen: the features and the pretrained parts.
        config: penalty, balancer and IRM weight.
        projection_l2: weight of ``|W|^2`` beside the risk.
        variances: for a penalty that reads them.
        group: ``[F]``, the gate of each feature; each has its own without it.
    """
    mu, weight, bias = (tensor.detach().requires_grad_() for tensor in (at.mu, at.weight, at.bias))
    attends = config.form == "attention"
    gates = spread(attention(mu) if attends else sample_gates(mu, draw.sigma, draw.noise), group)
    scored = score(gates, weight, bias, frozen)
    risk = empirical_risk(scored, frozen)
    objective = risk + projection_l2 * weight.square().sum()
    need_penalty = BALANCERS.get(config.balancer).reads_penalty
    risk_mu, risk_weight, risk_bias = torch.autograd.grad(
        objective, (mu, weight, bias), retain_graph=need_penalty
    )
    if need_penalty:
        seen = Seen(
            scored=scored,
            frozen=frozen,
            label=label,
            plan=plan,
            part=draw.part,
            contrasts=draw.contrasts,
            variances=variances,
        )
        estimate = PENALTIES.get(config.penalty).estimate(seen)
        penalty, penalty_mu = estimate.value, _log_gradient(estimate, mu)
    else:
        penalty, penalty_mu = torch.zeros_like(risk), torch.zeros_like(risk_mu)
    return GateStep(
        balance=balance(
            risk_mu / risk.detach().clamp_min(1e-12), penalty_mu, config.irm_weight, config.balancer
        ),
        weight_gradient=risk_weight,
        bias_gradient=risk_bias,
        risk=risk.detach(),
        penalty=penalty.detach(),
    )


def _log_gradient(penalty: Estimate, mu: Tensor) -> Tensor:
    """``[G]`` the gradient of ``log P`` on ``mu``; zeros where ``P <= 0``, which gives no direction."""
    (slope,) = torch.autograd.grad(penalty.value, mu)
    size = torch.maximum(penalty.value, _PENALTY_FLOOR * penalty.naive).detach().clamp_min(1e-30)
    return torch.where(penalty.value.detach() > 0, slope / size, 0.0)


def learn_mask(
    start: Gated,
    label: Tensor,
    n_environments: int,
    frozen: Frozen,
    config: MaskConfig,
    *,
    projection_l2: float,
    seed: int,
    variances: FeatureVariances | None = None,
    group: Tensor | None = None,
    compiled: bool = False,
    known: Callable[[], MaskSteps | None] | None = None,
    save: Callable[[Callable[[], MaskSteps]], object] | None = None,
) -> MaskState:
    """Learn the gates for fixed environments.

    Args:
        start: the round before, or gates at 1/2 and the pretrained projection.
        label: ``[N]`` environments of the training pairs.
        n_environments: ``E``.
        frozen: the features and the pretrained parts.
        config: hyperparameters.
        projection_l2: the backbone's.
        seed: of the gates' noise, the parts and the contrasts.
        variances: how differently the environments weigh each feature, for a penalty that reads it.
        group: ``[F]``, the gate of each feature; each has its own without it.
        compiled: whether steps go through ``torch.compile``; those of a balancer that
            does not compile never do.
        known: hands over the state from which a mask that was killed continues, if it was.
        save: is offered the state after every step but the last, as a function that makes it. It is true only
            until ``save`` returns.

    Raises:
        Diverged: a parameter is not finite at the end.
    """
    draws = generator(seed, "gates")
    device = frozen.features.device
    begun = None if known is None else known()
    if begun is not None:
        start = begun.gated
        draws.set_state(begun.generator.cpu())
    mu, weight, bias = (tensor.detach().clone() for tensor in (start.mu, start.weight, start.bias))
    width, n_pairs = mu.shape[0], label.shape[0]
    optimizer = torch.optim.Adam([weight, bias], lr=config.learning_rate)
    if begun is not None:
        optimizer.load_state_dict(dict(begun.optimizer))
    kind = chosen_kind(config.contrasts, n_environments, n_pairs, frozen.user_content.shape[1])
    # Of few gates, what a share lacks to a whole one would lie on a single gate, whatever that gate is worth.
    density = 1 - (config.closes if group is None else closed_gates(width, config.closes) / width)
    plan = plan_contrasts(kind, n_environments, frozen.user_content)
    sides = PENALTIES.get(config.penalty).part_pairs
    step_gates = step_function(gate_step, compiled=compiled and BALANCERS.get(config.balancer).compiles)
    keep_density = step_function(with_density, compiled=compiled)
    # Stays on the device until the end.
    log = torch.empty(config.steps, len(MEASURED), device=device, dtype=weight.dtype)
    if begun is not None:
        log.copy_(begun.log)
    for step in range(0 if begun is None else begun.step, config.steps):
        interrupts.check()
        progress = step / max(1, config.steps - 1)
        sigma = torch.tensor(config.sigma + (config.final_sigma - config.sigma) * progress)
        sigma = to_device(sigma.to(mu.dtype), device)
        draw = Draw(noise=to_device(torch.randn(width, generator=draws), device), sigma=sigma)
        if sides > 0:
            # A byte a pair travels; the draws are those of whole numbers of any width.
            part = torch.randint(2 * sides, (n_pairs,), generator=draws, dtype=torch.uint8)
            contrasts = torch.stack([draw_contrasts(plan, draws) for _ in range(sides)]).to(weight.dtype)
            draw = replace(draw, part=to_device(part, device).long(), contrasts=to_device(contrasts, device))
        at = Gated(mu=mu, weight=weight, bias=bias)
        taken = step_gates(at, draw, label, plan, frozen, config, projection_l2, variances, group)
        # A gate's gradient shrinks with the number of gates; the rate is per mean gate.
        mu = mu - config.gate_rate * width * taken.balance.direction
        if density < 1:
            mu = keep_density(mu, sigma, density)
        weight.grad, bias.grad = taken.weight_gradient, taken.bias_gradient
        optimizer.step()
        log[step] = torch.stack([taken.risk, taken.penalty, taken.balance.epsilon, taken.balance.cosine])
        if save is not None and step + 1 < config.steps:
            save(partial(_steps_of, step + 1, Gated(mu=mu, weight=weight, bias=bias), optimizer, draws, log))
    if not all(bool(torch.isfinite(tensor).all()) for tensor in (mu, weight, bias)):
        raise Diverged("the mask's gates are not finite; lower mask.gate_rate or mask.learning_rate")
    last = log[-max(1, config.steps // 4) :].mean(dim=0)
    means, *steps = torch.cat([last[None], log]).tolist()
    return MaskState(
        mask=spread(attention(mu) if config.form == "attention" else final_mask(mu, config.sparsity), group),
        learned=Gated(mu=mu, weight=weight, bias=bias),
        measured=dict(zip(MEASURED, means, strict=True)),
        trace=dict(zip(MEASURED, zip(*steps, strict=True), strict=True)),
    )


def _steps_of(
    step: int, gated: Gated, optimizer: torch.optim.Optimizer, draws: torch.Generator, log: Tensor
) -> MaskSteps:
    return MaskSteps(
        step=step, gated=gated, optimizer=optimizer.state_dict(), generator=draws.get_state(), log=log
    )

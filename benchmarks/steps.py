"""What one step asks of a device: ``python -m benchmarks.steps [--size small|large]``. Needs no device.

Runs one step of every stage on the ``meta`` device, which has shapes and no values, and counts kernels,
floating point operations and bytes. A step takes at least as long as the slowest of the three: bytes over
the memory's bandwidth, operations over the arithmetic's peak, kernels times the time of a launch.

Bytes are what each operation reads and writes if nothing stays in a cache; a bag over pairs reads a row
a pair.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import print_table
from painvrl.invariance.contrasts import draw_contrasts, plan_contrasts
from painvrl.invariance.gates import with_density
from painvrl.invariance.mask import Draw, Gated, MaskConfig, gate_step
from painvrl.invariance.risks import freeze
from painvrl.invariance.soft_mixture import FitSample, mixture_loss
from painvrl.model import pairs
from painvrl.model.batches import make_batch
from painvrl.model.losses import GramianLoss, SampledLoss
from painvrl.model.pairs import Pairs
from painvrl.model.training_data import HostLists, TrainingData
from painvrl.model.ultragcn import Backbone, BackboneConfig

META = torch.device("meta")
SIZES = {"small": (671, 9066, 80_000, 384), "large": (55_485, 5986, 1_000_000, 2276)}
ENVIRONMENTS, RESTARTS, FITTED_CELLS = 4, 3, 1_500_000
# Published peaks of one device: dense float32 (TF32 off) and bfloat16 in FLOP/s, memory in byte/s.
DEVICES = {"A100 80 GB": (19.5e12, 312e12, 2.0e12), "H100 SXM": (67e12, 989e12, 3.35e12)}
LAUNCH_S = 4e-6
BAGS = ("_embedding_bag", "_embedding_bag_forward_only")  # the second one where nothing asks for a gradient
VIEWS = {"view", "_unsafe_view", "t", "transpose", "slice", "unsqueeze", "squeeze", "expand", "select"}
VIEWS |= {"detach", "alias", "as_strided", "unbind", "split", "split_with_sizes", "_reshape_alias", "reshape"}
VIEWS |= {"empty", "empty_like", "new_empty", "lift_fresh", "permute", "is_same_size", "empty_strided"}


@dataclass
class Cost:
    """Of one step."""

    kernels: int = 0
    bytes: float = 0.0
    flops: float = 0.0


class Meter(TorchDispatchMode):
    """Counts kernels and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.cost = Cost()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = operation.overloadpacket.__name__
        if name == "half_sums":
            with self:  # one operator for the compiler, but many kernels: count those
                return pairs._half_sums._init_fn(*args)  # noqa: SLF001
        out = operation(*args, **(kwargs or {}))
        if name in VIEWS:
            return out
        self.cost.kernels += 1
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
        if name in {"pair_scores", *BAGS, "index_select", "index", "embedding"}:
            # A gather reads the rows that it is asked for, not the table.
            sizes = [size for size, tensor in zip(sizes, tensors, strict=True) if tensor.ndim == 1]
            sizes += [gathered_bytes(name, args, out)]
        self.cost.bytes += sum(sizes)
        return out


def gathered_bytes(name: str, args: tuple[Any, ...], out: Any) -> float:
    """Bytes of the rows that a gather reads, and of what it writes."""
    if name == "pair_scores":
        return float(2 * args[2].shape[0] * args[0].shape[1] * 4)
    if name in BAGS:
        return float(args[1].shape[0] * args[0].shape[1] * 4 + out[0].numel() * 4)
    return float(2 * out.numel() * out.element_size())


def _bag_flops(*shapes: Any, **_: Any) -> int:
    """Of a sum of weighted rows ``[R, D]`` listed by ``[N]`` indices."""
    return int(2 * shapes[1][0] * shapes[0][1])


def cost_of(step: Callable[[], object]) -> Cost:
    """Kernels, bytes and floating point operations of a step."""
    listed = {
        torch.ops.painvrl.pair_scores: lambda *shapes, **_: 2 * shapes[2][0] * shapes[1][1],
        torch.ops.aten._embedding_bag: _bag_flops,  # noqa: SLF001
        torch.ops.aten._embedding_bag_forward_only: _bag_flops,  # noqa: SLF001
    }
    with FlopCounterMode(display=False, custom_mapping=listed) as flops, Meter() as meter:
        step()
    meter.cost.flops = float(flops.get_total_flops())
    return meter.cost


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without values."""
    return torch.empty(shape, device=META, dtype=dtype)


def index(*shape: int) -> Tensor:
    """Indices without values."""
    return meta(*shape, dtype=torch.long)


def meta_data(n_users: int, n_items: int, n_pairs: int) -> TrainingData:
    """A training part without values in which every item is warm."""
    every = Pairs(
        user=index(n_pairs),
        item=index(n_pairs),
        user_offsets=index(n_users + 1),
        item_offsets=index(n_items + 1),
        by_item=index(n_pairs),
        user_by_item=index(n_pairs),
    )
    return TrainingData(
        pairs=every,
        warm_pairs=every,
        host=HostLists(user=index(n_pairs), item=index(n_pairs), warm_items=torch.arange(n_items)),
        user_degree=meta(n_users),
        item_degree=meta(n_items),
        warm=meta(n_items),
        warm_items=index(n_items),
        active=meta(n_users),
    )


def steps(n_users: int, n_items: int, n_pairs: int, width: int) -> dict[str, Callable[[], object]]:
    """One step of every stage, optimisers left out (a fused one is a kernel that moves 7 numbers each)."""
    data, features, draw = meta_data(n_users, n_items, n_pairs), meta(n_items, width), torch.Generator()

    def whole(precision: str) -> Callable[[], object]:
        config = BackboneConfig.model_validate({"precision": precision, "loss": GramianLoss()})
        model = Backbone(features, data, config, draw)
        return lambda: model.full_loss(None).backward()

    def sampled(negatives_per: str, negatives: int, size: int) -> Callable[[], object]:
        loss = SampledLoss.model_validate({"negatives_per": negatives_per, "negatives": negatives})
        model = Backbone(features, data, BackboneConfig(loss=loss), draw)
        shape = (negatives,) if negatives_per == "batch" else (size, negatives)
        batch = make_batch(
            torch.randint(n_users, (size,), generator=draw),
            torch.randint(n_items, (size,), generator=draw),
            torch.randint(n_items, shape, generator=draw),
            None,
            META,
        )
        return lambda: model.batch_loss(batch, model.rows(batch)).backward()

    def mixture() -> Callable[[], object]:
        fitted = min(n_users, FITTED_CELLS // n_items)
        of_fit = n_pairs * fitted // n_users
        sample = FitSample(weights=meta(fitted, n_items), pairs=meta_data(fitted, n_items, of_fit).pairs)
        offsets = meta(RESTARTS, ENVIRONMENTS, width).requires_grad_()
        return lambda: mixture_loss(offsets, features, sample, 1e-4).sum().backward()

    def gates(count: int) -> Callable[[], object]:
        frozen = freeze(data, features, meta(n_users, 64), meta(n_items, 64), meta(n_users, 64), 0.1)
        plan = plan_contrasts("sketched", count, frozen.user_content)
        at = Gated(mu=meta(width), weight=meta(width, 64), bias=meta(64))
        drawn = Draw(
            noise=meta(width),
            sigma=meta(),
            part=index(n_pairs),
            contrasts=draw_contrasts(plan, draw).float().to(META)[None],
        )

        def step() -> None:
            gate_step(at, drawn, index(n_pairs), plan, frozen, MaskConfig(penalty="gradient_variance"), 1e-5)
            with_density(at.mu, drawn.sigma, 0.5)

        return step

    return {
        "backbone, gramian": whole("float32"),
        "backbone, gramian, bfloat16": whole("bfloat16"),
        "backbone, sampled, 4,096 pairs, 100 shared negatives": sampled("batch", 100, 4096),
        "backbone, sampled, 512 pairs, 50 negatives each": sampled("pair", 50, 512),
        f"mixture, {RESTARTS} restarts, E = {ENVIRONMENTS}": mixture(),
        "gates, E = 2": gates(2),
        "gates, E = 10": gates(10),
    }


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=[*SIZES], default="large")
    size = SIZES[parser.parse_args().size]
    rows = []
    for name, step in steps(*size).items():
        cost = cost_of(step)
        row = [name, str(cost.kernels), f"{cost.flops / 1e9:.2f}", f"{cost.bytes / 1e9:.2f}"]
        for exact, half, bandwidth in DEVICES.values():
            peak = half if "bfloat16" in name else exact
            times = {
                "launches": cost.kernels * LAUNCH_S,
                "arithmetic": cost.flops / peak,
                "memory": cost.bytes / bandwidth,
            }
            limit = max(times, key=lambda key: times[key])
            row.append(f"{1e3 * times[limit]:.2f} ({limit})")
        rows.append(row)
    header = ["step", "kernels", "GFLOP", "GB", *(f"{name}, ms at least" for name in DEVICES)]
    print_table(
        "One step at {:,} users x {:,} items x {:,} pairs x {:,} features".format(*size), header, rows
    )


if __name__ == "__main__":
    main()

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from painvrl.data.interactions import Interactions
from painvrl.model.fit import TrainingConfig, fit
from painvrl.model.mixing import ItemAttention, Mixing, Sum
from painvrl.model.training_data import training_data
from painvrl.model.ultragcn import Backbone, BackboneConfig
from painvrl.model.user_blocks import OwnUsers

CPU = torch.device("cpu")
USERS, ITEMS, FEATURES, ID, CONTENT = 41, 13, 4, 3, 2


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def interactions(users: int = USERS) -> Interactions:
    """One user in ten has no pair, and the last item is cold."""
    taken = torch.rand(users, ITEMS, generator=gen()) < 0.3
    taken[::10] = False
    taken[:, -1] = False
    user, item = taken.nonzero(as_tuple=True)
    mixed = torch.randperm(len(user), generator=gen(1))
    return Interactions(user=user[mixed], item=item[mixed], n_users=users, n_items=ITEMS)


def model_in_blocks(
    block_users: int, *, base: bool = False, mixing: type[Mixing] = Sum, users: int = USERS
) -> Backbone:
    vectors = torch.randn(users, 5, generator=gen(2)), torch.randn(ITEMS, 5, generator=gen(3))
    return Backbone(
        torch.randn(ITEMS, FEATURES, generator=gen(4)),
        training_data(interactions(users), CPU, block_users=block_users),
        BackboneConfig(id_dim=ID, content_dim=CONTENT, id_dropout=0.4, modality_dropout=0.3),
        gen(5),
        gates=None if mixing is Sum else torch.rand(2 * FEATURES, generator=gen(6)),
        base=vectors if base else None,
        base_id_dim=2 if base else 0,
        mixing=mixing,
        widths=(1, 3),
    )


def gradients(model: Backbone) -> dict[str, Tensor]:
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("block_users", [1, 7, 40])
@pytest.mark.parametrize("mixing", [Sum, ItemAttention])
@pytest.mark.parametrize("base", [False, True], ids=["backbone", "branch"])
def test_the_gradient_over_blocks_of_users_is_that_of_the_full_batch(
    block_users: int, mixing: type[Mixing], base: bool
) -> None:
    whole = model_in_blocks(USERS, base=base, mixing=mixing)
    kept, weights = whole.kept_items(gen(7)), whole.modality_weights(gen(8))
    assert weights is not None
    expected = whole.full_loss(kept, weights)
    expected.backward()
    model = model_in_blocks(block_users, base=base, mixing=mixing)
    found = OwnUsers.of(model).add_gradients(kept, weights, model.block_loss)
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(gradients(model), gradients(whole), rtol=1e-5, atol=1e-7)
    assert len(gradients(whole)) == len(list(whole.parameters()))


def test_a_training_in_blocks_of_users_ends_where_one_of_the_full_batch_does() -> None:
    def trained(block_users: int) -> tuple[Mapping[str, Tensor], list[float]]:
        model, losses = model_in_blocks(block_users), []
        config = TrainingConfig(evaluate_every=2, weight_decay=0.01)
        fit(
            model,
            config,
            gen(8),
            evaluate=None,
            observe=lambda _, values: losses.append(values["loss"]),
            epochs=6,
        )
        return model.state_dict(), losses

    (state, losses), (expected, of_whole) = trained(6), trained(USERS)
    torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-5)
    assert losses == pytest.approx(of_whole, rel=1e-5)
    assert losses[-1] < losses[0]


def test_few_users_are_one_full_batch() -> None:
    assert training_data(interactions(), CPU, block_users=USERS).user_blocks == ()
    assert training_data(interactions(), CPU).user_blocks == ()


def test_blocks_of_users_hold_every_user_and_every_pair_once() -> None:
    data = training_data(interactions(), CPU, block_users=9)
    assert [(block.start, block.stop) for block in data.user_blocks] == [
        (0, 9),
        (9, 18),
        (18, 27),
        (27, 36),
        (36, 41),
    ]
    listed = [
        (user + block.start, item)
        for block in data.user_blocks
        for user, item in zip(block.pairs.user.tolist(), block.pairs.item.tolist(), strict=True)
    ]
    assert listed == list(zip(data.warm_pairs.user.tolist(), data.warm_pairs.item.tolist(), strict=True))


class Sizes(TorchDispatchMode):
    """Notes how many numbers each new tensor holds; a view of a tensor is no new one."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[int] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = operation(*args, **(kwargs or {}))
        given = {storage_of(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        self.made += [
            leaf.numel()
            for leaf in tree_leaves(out)
            if isinstance(leaf, Tensor) and storage_of(leaf) not in given
        ]
        return out


def storage_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def sizes_made() -> Iterator[list[int]]:
    with Sizes() as sizes:
        yield sizes.made


def test_a_step_over_blocks_makes_nothing_of_all_users_but_their_gradients() -> None:
    users, block_users = 2000, 50
    model = model_in_blocks(block_users, users=users)
    own = OwnUsers.of(model)
    pairs = max(len(block.pairs) for block in model.data.user_blocks)
    most = max(block_users * (ID + CONTENT), pairs)
    kept = model.kept_items(gen())
    with sizes_made() as made:
        own.add_gradients(kept, None, model.block_loss)
    assert sorted(made)[-2:] == [users * CONTENT, users * ID]
    assert max(sorted(made)[:-2]) <= most
    with sizes_made() as made:  # what is counted is counted of a full batch, too
        model.full_loss(kept).backward()
    assert sum(size > most for size in made) > 10


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_several_processes_train_what_one_does(tmp_path: Path, ranks: int) -> None:
    script = Path(__file__).with_name("trained_together.py")
    results = [tmp_path / f"{rank}.pt" for rank in range(ranks)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "group"), str(rank), str(ranks), str(result)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank, result in enumerate(results)
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes)
    expected = runpy.run_path(str(script))["trained"]()
    found = [torch.load(result) for result in results]
    for one in found:
        assert one["chosen"] == expected["chosen"] == 6
        torch.testing.assert_close(one["state"], expected["state"], rtol=1e-4, atol=1e-5)
        for (epoch, values), (same, of_one) in zip(one["reported"], expected["reported"], strict=True):
            assert epoch == same
            assert values == pytest.approx(of_one, rel=1e-4)
    torch.testing.assert_close(found[0]["state"], found[1]["state"], rtol=0, atol=0)
    # Gradients and moments of a user are one process's.
    assert sum(one["own"] for one in found) == USERS
    assert max(one["own"] for one in found) < USERS
    for text in said:
        assert (
            "backbone: several processes train one model by loss.kind gramian and risks.kind mean alone"
            in text
        )

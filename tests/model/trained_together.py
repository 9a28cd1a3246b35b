"""One of several processes that train a small backbone: FILE-OF-THE-GROUP RANK RANKS RESULT.

Not a test; ``test_user_blocks.py`` starts it, and trains the same alone.
"""

from __future__ import annotations

import sys

import torch
from torch import distributed

from painvrl.core.ranks import rank
from painvrl.data.interactions import Interactions
from painvrl.model.fit import TrainingConfig, fit
from painvrl.model.losses import GramianLoss, SampledLoss
from painvrl.model.training_data import training_data
from painvrl.model.ultragcn import Backbone, BackboneConfig
from painvrl.model.user_blocks import OwnUsers

USERS, ITEMS, FEATURES = 41, 13, 4


def gen(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(loss: GramianLoss | SampledLoss) -> Backbone:
    taken = torch.rand(USERS, ITEMS, generator=gen(0)) < 0.3
    user, item = taken.nonzero(as_tuple=True)
    listed = Interactions(user=user, item=item, n_users=USERS, n_items=ITEMS)
    base = torch.randn(USERS, 5, generator=gen(1)), torch.randn(ITEMS, 5, generator=gen(2))
    return Backbone(
        torch.randn(ITEMS, FEATURES, generator=gen(3)),
        training_data(listed, torch.device("cpu")),
        BackboneConfig(id_dim=3, content_dim=2, id_dropout=0.4, loss=loss),
        gen(4),
        # Stages before may end with other last bits elsewhere; here with quite other ones.
        gates=torch.rand(FEATURES, generator=gen(5)) + rank(),
        base=base,
        base_id_dim=2,
    )


def trained() -> dict[str, object]:
    """The state, the chosen epoch, what was reported, and how many users' rows this process moves."""
    backbone, reported = model(GramianLoss()), []

    def evaluate(epoch: int, users: torch.Tensor, items: torch.Tensor) -> dict[str, float]:
        # The others see it fall, and would stop at once.
        return {"iid/ndcg_at_20": float(epoch * (1 - 2 * rank())), "users": float(users.square().sum())}

    chosen = fit(
        backbone,
        TrainingConfig(max_epochs=6, evaluate_every=2, patience=1),
        gen(6),
        evaluate=evaluate,
        observe=lambda epoch, values: reported.append((epoch, dict(values))),
    )
    own = OwnUsers.of(backbone).tables[0].shape[0] if distributed.is_initialized() else USERS
    return {"state": backbone.state_dict(), "chosen": chosen, "reported": reported, "own": own}


def main(group: str, number: int, ranks: int, result: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{group}", rank=number, world_size=ranks)
    torch.save(trained(), result)
    try:
        fit(model(SampledLoss()), TrainingConfig(), gen(6), evaluate=None, observe=lambda *_: None)
    except Exception as refused:  # noqa: BLE001 (the test looks at it)
        sys.stdout.write(str(refused))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

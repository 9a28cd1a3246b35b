"""The gradient of the whole-data loss over blocks of users: that of one full batch, to rounding.

Everything in the loss is a sum over users once the item vectors ``Y`` are known: ``<X'X, Y'Y>`` is the sum of
``<X_b'X_b, Y'Y>`` over blocks. So what a step holds of users and pairs is bounded by a block, beside the
tables themselves. Items are differentiated through once, at the end, by what the blocks have added up.

Where ``torchrun`` has started several processes, each takes some of the users: it holds gradients and moments
of these alone. The items' gradient and the users' Gram matrix are added up over the processes, so that
all of them move the items alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from painvrl.core.errors import ConfigError
from painvrl.core.ranks import add_up, n_ranks, same_in_all, share_of
from painvrl.model.training_data import UserBlock
from painvrl.model.ultragcn import Backbone, UserRows

BlockLoss = Callable[[UserRows, UserBlock, Tensor, Tensor], Tensor]
"""As :meth:`painvrl.model.ultragcn.Backbone.block_loss`."""


@dataclass(frozen=True, kw_only=True)
class OwnUsers:
    """The users whose rows this process trains.

    Attributes:
        model: whose users they are.
        blocks: of these users.
        tables: their rows of ``user_id`` and ``user_content``. They share memory with the model's tables, so
            that a step on one is a step on the other.
    """

    model: Backbone
    blocks: Sequence[UserBlock]
    tables: tuple[nn.Parameter, nn.Parameter]

    @classmethod
    def of(cls, model: Backbone) -> OwnUsers:
        """All users, or this process's share of them.

        Raises:
            ConfigError: there are fewer blocks of users than processes.
        """
        every = model.data.user_blocks
        if len(every) < n_ranks():
            rule = f"must be at most the number of blocks of users, {len(every)}"
            raise ConfigError(rule, key="torchrun --nproc-per-node", value=n_ranks())
        blocks = share_of(every)
        # What came of earlier stages may differ in the last bits.
        same_in_all(model.gates, *(model.base or ()), *model.parameters())
        if n_ranks() == 1:
            return cls(model=model, blocks=blocks, tables=(model.user_id, model.user_content))
        rows = slice(blocks[0].start, blocks[-1].stop)
        of_id, of_content = (nn.Parameter(table.detach()[rows]) for table in model.user_tables())
        return cls(model=model, blocks=blocks, tables=(of_id, of_content))

    def add_gradients(self, kept: Tensor | None, modalities: Tensor | None, block_loss: BlockLoss) -> Tensor:
        """Add the gradient of the model's whole-data loss to its parameters, and return the loss.

        Args:
            kept: as of :meth:`painvrl.model.ultragcn.Backbone.full_loss`.
            modalities: as there.
            block_loss: the model's, compiled or not.
        """
        model, first = self.model, self.blocks[0].start
        items = model.step_items(kept, modalities)
        leaf = items.detach().requires_grad_()
        gram = (leaf.detach().T @ leaf.detach()).requires_grad_()
        for table in self.tables:
            table.grad = torch.empty_like(table)
        total = items.new_zeros(())
        for block in self.blocks:
            place = slice(block.start - first, block.stop - first)
            rows = UserRows(*(table.detach()[place].requires_grad_() for table in self.tables))
            loss = block_loss(rows, block, leaf, gram)
            loss.backward()
            total += loss.detach()
            for table, row in zip(self.tables, rows, strict=True):
                assert table.grad is not None
                assert row.grad is not None
                table.grad[place] = row.grad
        assert leaf.grad is not None
        assert gram.grad is not None
        add_up(leaf.grad, gram.grad, total)
        # d <G, Y'Y> / dY = Y (G + G'), where G is what the blocks have added up.
        pulled = leaf.grad.addmm_(leaf.detach(), gram.grad + gram.grad.T)
        penalty = model.item_penalty()
        torch.autograd.backward([items, penalty], [pulled, torch.ones_like(penalty)])
        return total + penalty.detach()

    def share(self) -> None:
        """Give the others this process's rows, and take theirs, so that the model is whole."""
        for source in range(n_ranks()):
            blocks = share_of(self.model.data.user_blocks, source)
            rows = slice(blocks[0].start, blocks[-1].stop)
            same_in_all(*(table.detach()[rows] for table in self.model.user_tables()), source=source)

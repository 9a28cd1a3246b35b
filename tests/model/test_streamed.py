from __future__ import annotations

import pytest
import torch
from torch import Tensor

from painvrl.data.dataset import Modality
from painvrl.data.features import FeatureConfig, FeatureRows, build_features
from painvrl.data.interactions import Interactions
from painvrl.invariance.variant import VariantPart
from painvrl.model.batches import epoch_of_batches
from painvrl.model.fit import TrainingConfig, fit
from painvrl.model.losses import GramianLoss, SampledLoss
from painvrl.model.streamed import StreamedFeatures
from painvrl.model.training_data import TrainingData, training_data
from painvrl.model.ultragcn import Backbone, BackboneConfig

CPU = torch.device("cpu")
ITEMS, WIDTHS, USERS = 23, (3, 5), 9
CONFIG = FeatureConfig(standardise=("a",), scales={"b": 0.5})
TRAIN = torch.arange(ITEMS) % 4 > 0


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def modalities() -> dict[str, Modality]:
    return {
        name: Modality(
            values=torch.randn(ITEMS, width, generator=gen(width)), present=torch.arange(ITEMS) % width > 0
        )
        for name, width in zip(("a", "b"), WIDTHS, strict=True)
    }


def streamed(items: Tensor | None = None) -> StreamedFeatures:
    return StreamedFeatures(made=FeatureRows.of(modalities(), TRAIN, CONFIG), device=CPU, items=items)


def of_items(count: int) -> int:
    """Bytes of a block."""
    return 4 * sum(WIDTHS) * count


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("painvrl.model.streamed.BLOCK_BYTES", of_items(4))


def whole(items: Tensor | None = None) -> Tensor:
    matrix = build_features(modalities(), TRAIN, CONFIG)
    return matrix if items is None else matrix[items]


def data() -> TrainingData:
    """Some items are cold."""
    taken = torch.rand(USERS, ITEMS, generator=gen()) < 0.4
    taken[:, ::6] = False
    user, item = taken.nonzero(as_tuple=True)
    return training_data(Interactions(user=user, item=item, n_users=USERS, n_items=ITEMS), CPU)


def test_every_row_is_that_of_the_matrix_to_the_last_bit() -> None:
    features = streamed()
    assert torch.equal(torch.cat([rows for _, rows in features.blocks()]), whole())
    assert torch.equal(features.cpu(), whole())
    some = torch.tensor([22, 0, 5, 5])
    assert torch.equal(features[some], whole()[some])
    assert torch.equal(features.index_select(0, some).cpu(), whole()[some])
    assert features.shape == whole().shape


def test_no_block_is_larger_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(rows) for _, rows in streamed().blocks()] == [4, 4, 4, 4, 4, 3]
    monkeypatch.setattr("painvrl.model.streamed.BLOCK_BYTES", 1)
    assert [len(rows) for _, rows in streamed().blocks()] == [1] * ITEMS


@pytest.mark.parametrize("items", [None, torch.tensor([1, 4, 21])], ids=["all", "some"])
@pytest.mark.parametrize("block_items", [1, 4, ITEMS])
def test_products_and_their_gradients_are_those_of_the_matrix(
    monkeypatch: pytest.MonkeyPatch, block_items: int, items: Tensor | None
) -> None:
    monkeypatch.setattr("painvrl.model.streamed.BLOCK_BYTES", of_items(block_items))
    features, matrix = streamed(items), whole(items)
    columns = torch.randn(sum(WIDTHS), 3, generator=gen(1), requires_grad=True)
    values = torch.randn(len(matrix), 3, generator=gen(2), requires_grad=True)
    for found, expected, argument in (
        (features @ columns, matrix @ columns, columns),
        (features.T @ values, matrix.T @ values, values),
    ):
        torch.testing.assert_close(found, expected)
        # A square, so that the gradient depends on what is differentiated: it is differentiated again.
        slopes = [
            torch.autograd.grad(one.square().sum(), argument, create_graph=True)[0]
            for one in (found, expected)
        ]
        torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-5)
        again = [torch.autograd.grad(slope.pow(3).sum(), argument)[0] for slope in slopes]
        torch.testing.assert_close(*again, rtol=1e-4, atol=1e-4)


def test_the_variant_part_of_streamed_features_is_that_of_the_matrix() -> None:
    gates, columns = torch.rand(sum(WIDTHS), generator=gen(1)), torch.randn(8, 2, generator=gen(2))
    found, expected = VariantPart(streamed(), gates), VariantPart(whole(), gates)
    torch.testing.assert_close(found @ columns, expected @ columns)
    assert torch.equal(found[torch.tensor([3, 3, 7])], expected[torch.tensor([3, 3, 7])])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "loss", [GramianLoss(), SampledLoss(negatives=3, batch_size=8)], ids=lambda x: x.kind
)
def test_a_backbone_of_streamed_features_trains_as_one_of_the_matrix(
    loss: GramianLoss | SampledLoss, precision: str
) -> None:
    def trained(features: Tensor | StreamedFeatures) -> dict[str, Tensor]:
        config = {"id_dim": 2, "content_dim": 3, "loss": loss, "precision": precision, "id_dropout": 0.3}
        model = Backbone(features, data(), BackboneConfig.model_validate(config), gen(3))
        fit(model, TrainingConfig(), gen(4), evaluate=None, observe=lambda *_: None, epochs=2)
        return {**model.state_dict(), "content": model.content().detach()}

    exact = precision == "float32"
    torch.testing.assert_close(
        trained(streamed()), trained(whole()), rtol=1e-4 if exact else 2e-2, atol=1e-5 if exact else 2e-2
    )


def test_a_batch_brings_the_rows_of_its_items() -> None:
    loss = SampledLoss(negatives=3, batch_size=8)
    for batch in epoch_of_batches(data(), loss, 0.0, gen(), CPU, features=streamed()):
        assert batch.features is not None
        assert torch.equal(batch.features, whole()[batch.items])

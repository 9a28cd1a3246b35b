from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from painvrl.core.errors import DataError
from painvrl.data import encoders
from painvrl.data.encoders import encode_images, encode_texts
from painvrl.data.sources.modality_file import ModalityFile, read_modality

ITEMS = "id,title,about,file\n007,Ash,grey,a.png\n7,,,\nx,Birch,,gone.png\n"


@pytest.fixture
def items() -> Path:
    Path("items.csv").write_text(ITEMS)
    return Path("items.csv")


@pytest.fixture
def fake_model(monkeypatch) -> list[list[str]]:
    """A model of sentences that counts their letters and reads two words; gives what it was asked."""
    asked: list[list[str]] = []

    def encode(texts, **_):
        asked.append(list(texts))
        return np.array([[len(text), 1.0] for text in texts])

    def tokenizer(texts, **_):
        return {"input_ids": [text.split() for text in texts]}

    model = SimpleNamespace(encode=encode, tokenizer=tokenizer, max_seq_length=1)
    monkeypatch.setattr(encoders, "_sentence_model", lambda _: model)

    @contextmanager
    def quiet():
        yield

    monkeypatch.setattr(encoders, "quiet_and_offline", quiet)
    return asked


def read(path: str):
    """As a study reads the file that its last line names."""
    return read_modality(ModalityFile(path=Path(path), key="ids", values="features"), where="data.files.x")


def test_texts_become_a_file_that_a_study_reads_and_missing_ones_are_counted(items, fake_model):
    said = encode_texts(items, key="id", columns=["title", "about"], model="any", output=Path("t.npz"))
    assert fake_model == [["Ash, grey", "Birch"]]
    keyed = read("t.npz")
    assert keyed.ids.tolist() == ["007", "x"]
    assert keyed.values.tolist() == [[9, 1], [5, 1]]
    assert (said.items, said.encoded, said.missing, said.width, said.cut) == (3, 2, 1, 2, 1)
    text = "\n".join(map(str, said.blocks()))
    assert "missing texts: 1 items have none" in text
    assert "{path: t.npz, key: ids, values: features}" in text


def test_blank_texts_are_missing_as_they_are_in_a_study(items, fake_model):
    items.write_text("id,a,b\n1, , \n2, ,ash\n")
    assert encode_texts(items, key="id", columns=["a", "b"], model="any", output=Path("t.npz")).missing == 1
    assert fake_model == [["ash"]]


def test_a_model_that_is_not_here_is_one_line_and_nothing_is_written(items):
    with pytest.raises(
        DataError, match=r"^--model: no such model is on this machine, and nothing is downloaded"
    ):
        encode_texts(items, key="id", columns=["title"], model="no/such-model", output=Path("t.npz"))
    assert not Path("t.npz").exists()


@pytest.mark.parametrize(
    ("columns", "message"), [(["titel"], "no such column"), (["none"], "no item has a text")]
)
def test_columns_without_a_text_are_named(items, fake_model, columns, message):
    items.write_text("id,title,none\n1,a,\n2,b,\n")
    with pytest.raises(DataError, match=f"--text: .*{message}"):
        encode_texts(items, key="id", columns=columns, model="any", output=Path("t.npz"))


@pytest.fixture
def torchvision(monkeypatch, tmp_path):
    """A stand-in for torchvision, with one model whose features are the mean colour."""

    class Weights:
        url = "file:///weights/tiny-1.pth"

        def transforms(self):
            def prepare(image):
                return torch.from_numpy(np.asarray(image, dtype=np.float32)).permute(2, 0, 1)

            return prepare

    class Tiny(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 1000))

        def forward(self, images):
            return self.head(images.mean(dim=(2, 3)))

    def get_model_weights(name):
        if name != "tiny":
            raise ValueError(name)
        return SimpleNamespace(DEFAULT=Weights())

    module, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    models.get_model_weights = get_model_weights
    models.get_model = lambda name, weights: Tiny()
    module.models = models
    monkeypatch.setitem(sys.modules, "torchvision", module)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "torch" / "hub" / "checkpoints" / "tiny-1.pth"


@pytest.fixture
def images() -> Path:
    folder = Path("images")
    folder.mkdir()
    Image.new("RGB", (4, 4), (10, 20, 30)).save(folder / "a.png")
    Image.new("L", (2, 5), 7).save(folder / "x.png")
    return folder


@pytest.mark.parametrize(
    ("column", "rows"), [("file", {"007": [10, 20, 30]}), (None, {"x": [7, 7, 7]})], ids=["column", "names"]
)
def test_images_are_what_the_model_has_before_its_last_layer(items, images, torchvision, column, rows):
    torchvision.touch()
    said = encode_images(items, key="id", folder=images, column=column, model="tiny", output=Path("i.npz"))
    keyed = read("i.npz")
    assert dict(zip(keyed.ids.tolist(), keyed.values.tolist(), strict=True)) == rows
    assert (said.items, said.missing, said.width, said.what) == (3, 2, 3, "images")


def test_weights_that_are_not_here_are_named_and_not_fetched(items, images, torchvision):
    with pytest.raises(DataError, match=r"tiny-1\.pth: --model: its weights are not on this machine"):
        encode_images(items, key="id", folder=images, column=None, model="tiny", output=Path("i.npz"))
    with pytest.raises(DataError, match="torchvision has no such model"):
        encode_images(items, key="id", folder=images, column=None, model="huge", output=Path("i.npz"))


def test_without_torchvision_the_package_is_named(items, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataError, match="the package torchvision is not installed"):
        encode_images(items, key="id", folder=images, column=None, model="tiny", output=Path("i.npz"))

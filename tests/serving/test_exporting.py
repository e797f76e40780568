from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import tl
from tests.small import Tiny, module, multitask_module, tiny_data, trainer, two_sources
from tests.text import build, read
from tl.checkpoints.errors import CheckpointError
from tl.data import TensorDataModule
from tl.modules import MultiTaskModule, TransferModule
from tl.serving.exporting import export
from tl.tasks import Classification, Regression


def saved(folder: Path, network: Any, data: Any) -> Path:
    """A checkpoint after one step."""
    keep = ModelCheckpoint(folder, "last", enable_version_counter=False)
    run = trainer(
        folder, max_epochs=1, limit_train_batches=1, enable_checkpointing=True, callbacks=[keep]
    )
    run.fit(network, data)
    return folder / "last.ckpt"


def from_card(folder: Path, which: str) -> str:
    """The code of the card's example that holds a word."""
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    [code] = [str(block) for block in blocks if which in block]
    return code.replace("FOLDER", str(folder))


def test_a_fresh_interpreter_without_tl_answers_as_the_live_model(tmp_path: Path) -> None:
    """By the code in the card, from a photo of another size."""
    data = two_sources()
    path = saved(tmp_path, multitask_module(data), data)
    done = export(path, tmp_path / "out", backbone=Tiny(), licence="mit")
    assert done.files == ("model.pt2", "model.safetensors", "config.json", "README.md")
    assert done.difference < 1e-5
    assert not done.problems
    assert not list(tmp_path.glob(".out*"))
    photo = tmp_path / "photo.png"
    Image.effect_noise((50, 40), 90).convert("RGB").save(photo)
    shown = from_card(done.folder, "torch.export").replace("photo.png", str(photo))
    answers = "print([answer.tolist() for answer in answers.values()])"
    code = f"import sys\nsys.modules['tl'] = None\n{shown}\n{answers}"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    *said, values = ran.stdout.splitlines()
    live = tl.load(path, backbone=Tiny())
    for number, name in enumerate(live.tasks):
        wanted = live.predict(photo, source=live.module.tasks[name].source)[name]
        assert said[number] == f"{name} {wanted.label}"
        torch.testing.assert_close(torch.tensor(json.loads(values)[number][0]), wanted.value)
    again = tl.load(done.folder, backbone=Tiny())
    assert again.class_names == live.class_names
    assert again.predict(photo, source="ten")["ten"].value.equal(
        live.predict(photo, source="ten")["ten"].value
    )


def test_the_card_says_what_the_checkpoint_knows(tmp_path: Path) -> None:
    data = tiny_data()
    path = saved(tmp_path, module(data), data)
    done = export(path, tmp_path / "out", backbone=Tiny())
    card = (done.folder / "README.md").read_text()
    config = json.loads((done.folder / "config.json").read_text())
    assert card.startswith('---\nlicense: "unknown"\n')
    assert data.fingerprint in card
    assert config["checkpoint"]["sha256"] in card
    assert "start   random weights" in card
    assert "synthetic" in card
    assert "Nobody has stated a licence" in card
    assert "what it froze is not recorded" in card
    assert config["inputs"] == [{"name": "pixels", "dtype": "uint8", "shape": [32, 32, 3]}]
    [task] = config["tasks"].values()
    assert task["class_names"] == list(data.class_names[data.tasks[0].name])
    assert str(tmp_path) not in json.dumps(config)
    with pytest.raises(ValueError, match="does not describe its network"):
        tl.load(done.folder)


def test_arrays_and_texts_are_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = torch.randint(0, 255, (32, 3, 8, 8), dtype=torch.uint8)
    targets = {"side": torch.arange(32) % 2, "height": torch.rand(32)}
    tasks = [Classification("side", 2, target="side"), Regression("height", target="height")]
    arrays = TensorDataModule(inputs, targets, tasks, batch_size=8)
    path = saved(tmp_path, MultiTaskModule(Tiny(), arrays.tasks), arrays)
    done = export(path, tmp_path / "arrays", backbone=Tiny())
    assert not done.problems
    names: dict[str, Any] = {}
    exec(from_card(done.folder, "torch.export"), names)  # noqa: S102 - our own
    assert names["answers"]["side"].shape == (2, 2)
    texts = read()
    network = build(texts)
    (tmp_path / "text").mkdir()
    path = saved(tmp_path / "text", network, texts)
    done = export(path, tmp_path / "texts", backbone=network.backbone)
    assert not done.problems
    config = json.loads((done.folder / "config.json").read_text())
    assert [part["name"] for part in config["inputs"]] == [
        *("input_ids", "attention_mask", "token_type_ids"),
    ]
    exec(from_card(done.folder, "torch.export"), names)  # noqa: S102 - our own
    live = tl.load(path, backbone=network.backbone)
    [name] = live.tasks
    torch.testing.assert_close(names["answers"][name][0], live.predict("a text").value)


class Branching(Tiny):
    """A network whose way depends on the values of its inputs."""

    def forward(self, images: Tensor) -> Tensor:
        features = super().forward(images)
        return features if float(images.mean()) > 0 else -features


class Forgetful(Tiny):
    """A network that answers differently each time."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images) * self.calls


class Deciding(Tiny):
    """A network that looks at its numbers."""

    def forward(self, images: Tensor) -> Tensor:
        found = super().forward(images)
        return found if found.sum() > 0 else -found


class Talking(Tiny):
    """A network that says something while its graph is taken."""

    def forward(self, images: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            sys.stderr.write("images come")
        return super().forward(images)


def test_what_a_network_says_is_heard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = tiny_data()
    path = saved(tmp_path, module(data, Talking), data)
    capfd.readouterr()
    assert not export(path, tmp_path / "out", backbone=Talking()).problems
    assert "images come" in capfd.readouterr().err


def test_torch_does_not_print_its_graph(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = tiny_data()
    path = saved(tmp_path, module(data, Deciding), data)
    [problem] = export(path, tmp_path / "out", backbone=Deciding()).problems
    assert "torch.export cannot take Deciding: " in problem
    said = capfd.readouterr()
    assert "def forward" not in said.out + said.err


def test_what_torch_export_cannot_take_is_named_and_the_rest_is_written(tmp_path: Path) -> None:
    data = tiny_data()
    path = saved(tmp_path, module(data, Branching), data)
    done = export(path, tmp_path / "out", backbone=Branching())
    [problem] = done.problems
    assert problem.startswith("model.pt2 was not written: torch.export cannot take Branching: ")
    assert "\n" not in problem
    assert done.files == ("model.safetensors", "config.json", "README.md")
    assert problem in (done.folder / "README.md").read_text()
    assert tl.load(done.folder, backbone=Branching()).tasks


def test_nothing_is_written_if_answers_differ(tmp_path: Path) -> None:
    data = tiny_data()
    path = saved(tmp_path, module(data, Forgetful), data)
    with pytest.raises(ValueError, match=r"does not answer .* as the model does: they differ by"):
        export(path, tmp_path / "out", backbone=Forgetful())
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_checkpoint_that_does_not_know_its_inputs_needs_their_shape(tmp_path: Path) -> None:
    network = TransferModule(Tiny(), Classification("kind", 2))
    samples = TensorDataset(torch.randn(4, 3, 9, 9), torch.arange(4) % 2)
    path = saved(tmp_path, network, DataLoader(samples, batch_size=4))
    done = export(path, tmp_path / "out", backbone=Tiny())
    [problem] = done.problems
    assert "does not describe its inputs" in problem
    assert "--shape 3 32 32" in problem
    done = export(path, tmp_path / "shaped", backbone=Tiny(), shape=[3, 9, 9])
    assert "model.pt2" in done.files


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    data = tiny_data()
    path = saved(tmp_path, module(data), data)
    with pytest.raises(ValueError, match="exists and is not an empty folder"):
        export(path, tmp_path, backbone=Tiny())
    with pytest.raises(CheckpointError, match="no such file"):
        export(tmp_path / "none.ckpt", tmp_path / "out")
    with pytest.raises(ValueError, match="no source 'b'; its sources are"):
        export(path, tmp_path / "out", backbone=Tiny(), source="b")
    done = export(path, tmp_path / "out", backbone=Tiny())
    with pytest.raises(ValueError, match="is an export already"):
        export(done.folder, tmp_path / "again", backbone=Tiny())

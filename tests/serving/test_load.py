from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

import tl
from tests.small import Tiny, module, multitask_module, tiny_data, trainer, two_sources
from tests.text import build, read
from tl.checkpoints.errors import CheckpointError
from tl.cli import main
from tl.data import TensorDataModule
from tl.modules import MultiTaskModule
from tl.serving.model import Model
from tl.tasks import Classification, Regression


def saved(folder: Path, network: Any, data: Any) -> tuple[Path, list[Any]]:
    """Train an epoch; return the checkpoint, and what Lightning's predict gives."""
    keep = ModelCheckpoint(folder, "last", enable_version_counter=False)
    run = trainer(folder, max_epochs=1, enable_checkpointing=True, callbacks=[keep])
    run.fit(network, data)
    return folder / "last.ckpt", run.predict(network, data) or []


def test_a_model_answers_as_predict_does(tmp_path: Path) -> None:
    data = tiny_data()
    path, expected = saved(tmp_path, module(data), data)
    model = tl.load(path, backbone=Tiny())
    pixels = data.splits["test"].images  # type: ignore[attr-defined]
    found = model.predict(pixels.numpy(), batch_size=7)
    [name] = model.tasks
    wanted = torch.cat([batch[name][0] for batch in expected])
    assert len(found) == 30
    torch.testing.assert_close(torch.stack([each[name].value for each in found]), wanted)
    assert [each.label for each in found] == [
        model.class_names[row.topk(1).indices[0]] for row in wanted
    ]
    assert model.class_names == list(data.class_names[name])
    assert f"{name}: 10 classes: " in repr(model)


def test_an_image_is_the_same_in_every_form(tmp_path: Path) -> None:
    data = tiny_data()
    path, _ = saved(tmp_path, module(data), data)
    model = tl.load(path, backbone=Tiny())
    pixels = data.splits["test"].images[0].numpy()  # type: ignore[attr-defined]
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "a.png")
    forms = [
        folder / "a.png",
        str(folder / "a.png"),
        Image.fromarray(pixels),
        pixels,
        torch.from_numpy(pixels).permute(2, 0, 1),
        pixels / 255,
    ]
    answers = [model.predict(form) for form in forms]
    assert len({(each.label, each.probability) for each in answers}) == 1
    [inside] = model.predict(folder)
    assert inside.top(3) == answers[0].top(3)
    assert inside.sample == folder / "a.png"
    torch.testing.assert_close(model.embed(pixels), model.embed([pixels, pixels])[1])
    assert model.embed(pixels).shape == (8,)
    assert model.transform(pixels).shape == (1, 3, 32, 32)  # type: ignore[union-attr]


def test_what_cannot_be_read_is_named_and_the_others_are_answered(tmp_path: Path) -> None:
    data = tiny_data()
    path, _ = saved(tmp_path, module(data), data)
    model = tl.load(path, backbone=Tiny())
    pixels = data.splits["test"].images[0].numpy()  # type: ignore[attr-defined]
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "up").mkdir()
    with pytest.warns(UserWarning, match=r"1 of 3 samples cannot be read, the first: .*bad\.png"):
        first, bad, last = model.predict([pixels, tmp_path / "bad.png", pixels])
    assert first.label == last.label
    assert "bad.png" in bad.error
    with pytest.warns(UserWarning, match=r"1 of 3 samples cannot be read, the first: .*bad\.png"):
        features = model.embed([pixels, tmp_path / "bad.png", pixels], batch_size=1)
    torch.testing.assert_close(features[[0, 2]], model.embed([pixels, pixels]))
    assert features[1].isnan().all()
    with pytest.raises(ValueError, match=r"No sample can be read, the first: .*bad\.png"):
        model.embed([tmp_path / "bad.png"])
    with pytest.raises(AttributeError, match=r"There is no answer: .*bad\.png"):
        _ = bad.label
    for wrong, said in (
        (tmp_path / "bad.png", "cannot identify image"),
        (tmp_path / "up" / ".." / "bad.png", r"/up/\.\./bad\.png'\.$"),
        (tmp_path / "none.png", "no such file"),
        (3, "int is not an image; expected a path"),
        (np.zeros((4, 4, 7), np.uint8), r"shape \(4, 4, 7\) is not an image; expected \(H, W, 3\)"),
        (torch.zeros(7, 4, 4), r"shape \(7, 4, 4\) is not an image; expected \(3, H, W\)"),
        (np.full((4, 4, 3), -2.0), "reach from -2 to -2; expected bytes from 0 to 255, or floats"),
        (np.zeros((4, 4, 3), np.int64), "of int64 is not an image"),
        (Image.new("F", (4, 4)), "more than 8 bits per channel"),
    ):
        with pytest.raises(ValueError, match=said):
            model.predict(wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        model.predict(tmp_path / "empty")
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        model.predict(pixels, batch_size=0)


def test_several_tasks_answer_by_name(tmp_path: Path) -> None:
    data = two_sources()
    path, _ = saved(tmp_path, multitask_module(data), data)
    model = tl.load(path, backbone=Tiny())
    pixels = data.sources["ten"].splits["test"].images  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="each in its own way; choose one by `source`"):
        model.embed(pixels[0].numpy())
    found = model.predict(pixels[0].numpy())
    assert [*found] == model.tasks
    for source in model.sources:
        for task, answer in model.predict(pixels[0].numpy(), source=source).items():
            torch.testing.assert_close(found[task].value, answer.value)
    assert found["ten"].label in model.class_names["ten"]
    assert sorted(model.class_names) == sorted(model.tasks)
    if len(found) > 1:
        with pytest.raises(AttributeError, match="several tasks; choose one"):
            _ = found.label


def test_a_run_of_the_command_line_knows_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = Path(__file__).parents[2] / "configs"
    main(
        [
            *("fit", f"--config={config / 'multitask.yaml'}"),
            *(f"--config={config / 'overlays' / 'quick.yaml'}", "--trainer.max_steps=2"),
            *("--data.init_args.generated_size=200", "--data.init_args.batch_size=8"),
            *("--model.init_args.balancer=tl.balancing.Uncertainty", "--trainer.max_epochs=-1"),
            *("--log_dir=logs", "--name=a", "--dashboard.graph=false"),
        ]
    )
    run = tmp_path / "logs" / "a" / "version_0"
    models = [tl.load(run), tl.load(run.parent), tl.load(run / "checkpoints" / "last.ckpt")]
    assert {type(model.module.backbone).__name__ for model in models} == {"ResNet20"}
    picture = np.zeros((32, 32, 3), np.uint8)
    given = {model.predict(picture, source="cifar10")["cifar10"].probability for model in models}
    assert len(given) == 1
    assert isinstance(models[0].module, MultiTaskModule)
    assert not any(p.requires_grad for p in models[0].module.parameters())


def test_a_text_is_answered(tmp_path: Path) -> None:
    data = read()
    network = build(data)
    path, expected = saved(tmp_path, network, data)
    model = tl.load(path, backbone=network.backbone)
    texts = [data.splits["predict"].name(i) for i in range(40)]
    found = model.predict(texts, batch_size=16)
    [name] = model.tasks
    rows = {int(i): answer for batch in expected for answer, i in zip(*batch[name], strict=True)}
    wanted = torch.stack([rows[i] for i in range(40)])
    torch.testing.assert_close(
        torch.stack([each[name].value for each in found]), wanted, atol=1e-5, rtol=1e-4
    )
    assert model.predict(texts[0]).label == found[0].label
    assert model.predict((texts[0], texts[1])).label in model.class_names
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts[:3]) + "\n")
    assert [each.label for each in model.predict(file)] == [each.label for each in found[:3]]
    for empty in ("  ", ("a text", "")):
        with pytest.raises(ValueError, match="the text is empty"):
            model.predict(empty)
    with pytest.raises(ValueError, match="int is not a text"):
        model.predict(3)


def test_arrays_are_answered_in_the_shapes_of_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = torch.randint(0, 255, (32, 3, 8, 8), dtype=torch.uint8)
    targets = {"side": torch.arange(32) % 2, "height": torch.rand(32)}
    tasks = [Classification("side", 2, target="side"), Regression("height", target="height")]
    data = TensorDataModule(inputs, targets, tasks, batch_size=8)
    network = MultiTaskModule(Tiny(), data.tasks)
    path, expected = saved(tmp_path, network, data)
    model = tl.load(path, backbone=Tiny())
    found = model.predict(inputs)
    for name in ("side", "height"):
        rows = torch.cat([batch[name][0] for batch in expected])
        index = torch.cat([batch[name][1] for batch in expected])
        values = torch.stack([found[int(i)][name].value for i in index])
        torch.testing.assert_close(values.view_as(rows), rows)
    one = model.predict(inputs[3].numpy())
    assert one["side"].label == found[3]["side"].label
    with pytest.raises(AttributeError, match=r"height answers .*, not a class"):
        _ = one["height"].label
    assert "value" in one["height"].cells
    with pytest.raises(ValueError, match=r"the shape \(3, 9, 8\); the model was trained on \(3, 8"):
        model.predict([torch.zeros(3, 9, 8)])
    with pytest.raises(ValueError, match="int is not an input of this model"):
        model.predict(5)
    with pytest.raises(ValueError, match=r"\Ano such file: a\.png\.\Z"):
        model.predict("a.png")
    with pytest.raises(ValueError, match=r"values from 0 to 0.*trained on bytes"):
        model.predict(inputs[3] / 255)
    assert model.embed([]).shape == (0, Tiny.num_features)


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    data = tiny_data()
    path, _ = saved(tmp_path, module(data), data)
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    (tmp_path / "empty").mkdir()
    (tmp_path / "logs" / "mine" / "version_0").mkdir(parents=True)
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights.pt")
    for wrong, said in (
        (tmp_path / "text.ckpt", "is not a checkpoint"),
        (tmp_path / "none.ckpt", "no such file"),
        (tmp_path / "weights.pt", "holds weights but no tasks, so it cannot answer"),
        (tmp_path, r"holds 2 checkpoints, last\.ckpt, text\.ckpt; choose one"),
        (tmp_path / "logs", "holds the runs mine; choose one"),
        (tmp_path / "empty", "is a folder without runs; expected a run folder"),
    ):
        with pytest.raises(CheckpointError, match=rf"\A[^\n]*{said}[^\n]*\Z"):
            tl.load(wrong)
    with pytest.raises(
        ValueError, match=r"not describe its network.*: tl\.load\(path, backbone=\.\.\.\)"
    ):
        tl.load(path)
    wide = Tiny()
    wide.conv = torch.nn.Conv2d(3, 9, 3)
    with pytest.raises(ValueError, match=r"do not fit Tiny: backbone\.conv\.bias has the shape"):
        tl.load(path, backbone=wide)


def test_a_model_is_quiet_about_what_it_can_read(tmp_path: Path) -> None:
    data = tiny_data()
    path, _ = saved(tmp_path, module(data), data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = tl.load(path, backbone=Tiny())
        model.predict(np.zeros((40, 20), np.uint8))
    assert isinstance(model, Model)


def test_a_repository_of_the_hub_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = tiny_data()
    path, _ = saved(tmp_path, module(data), data)
    asked: list[tuple[str, dict[str, Any]]] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    model = tl.load("hf-hub:me/net@v1", backbone=Tiny())
    assert model.path == path
    [(name, options)] = asked
    assert (name, options["revision"], options["local_files_only"]) == ("me/net", "v1", True)
    assert "*.ckpt" in options["allow_patterns"]

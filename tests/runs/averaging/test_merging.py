"""Several networks fine-tuned from one source become one with all heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from torch import nn

from tests.runs.averaging.dense import Rooms
from tests.runs.averaging.runs import read, weights
from tests.small import Tiny, trainer
from tl import GeneratedDataModule, MultiTaskDataModule, MultiTaskModule, TransferModule
from tl.cli import main
from tl.runs.averaging import merge_checkpoints
from tl.runs.averaging.bench import Bench
from tl.runs.averaging.merging import COEFFICIENTS
from tl.transfer.lineage import lineage
from tl.transfer.task_vectors import task_arithmetic, ties

TEN: dict[str, Any] = {"classes": 10, "train_size": 60, "test_size": 20}
HUNDRED: dict[str, Any] = {"classes": 100, "train_size": 200, "test_size": 100}
SIZES: dict[str, Any] = {"batch_size": 20, "val_size": 0.5}


class Longer(Tiny):
    """Has a layer that the source does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 8)


class Made(NamedTuple):
    source: Path
    ten: Path
    hundred: Path
    joint: Path
    config: Path


def saved(module: Any, data: Any, folder: Path, name: str) -> Path:
    run = trainer(folder, max_epochs=1, limit_train_batches=2)
    run.fit(module, data)
    run.save_checkpoint(folder / f"{name}.ckpt")
    return folder / f"{name}.ckpt"


def several() -> MultiTaskDataModule:
    sources = {"generated10": GeneratedDataModule(**TEN)}
    sources["generated100"] = GeneratedDataModule(**HUNDRED)
    return MultiTaskDataModule(sources=sources, **SIZES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("merged")
    torch.manual_seed(0)
    first = GeneratedDataModule(**TEN, **SIZES)
    source = saved(TransferModule(Tiny(), first.task), first, folder, "source")
    found = []
    for options in (TEN, HUNDRED):
        data = GeneratedDataModule(**options, **SIZES)
        net = TransferModule(Tiny(), data.task, init_from=str(source))
        found.append(saved(net, data, folder, data.data_name))
    joint = saved(MultiTaskModule(Tiny(), several().tasks), several(), folder, "joint")
    config = folder / "several.yaml"
    sources = {
        f"generated{options['classes']}": {
            "class_path": "tl.data.GeneratedDataModule",
            "init_args": options,
        }
        for options in (TEN, HUNDRED)
    }
    model = {"backbone": {"class_path": "tests.small.Tiny"}}
    content = {
        "model": {"class_path": "tl.modules.MultiTaskModule", "init_args": model},
        "data": {
            "class_path": "tl.data.MultiTaskDataModule",
            "init_args": {"sources": sources, **SIZES},
        },
    }
    config.write_text(yaml.safe_dump(content))
    ten, hundred = found
    return Made(source, ten, hundred, joint, config)


def merge(made: Made, out: Path, **options: Any) -> str:
    given = {"configurations": [made.config], "accelerator": "cpu", **options}
    return merge_checkpoints(made.source, [made.ten, made.hundred], out, **given)


@pytest.mark.parametrize("method", ["task-arithmetic", "ties"])
def test_weights_are_merged_and_every_head_is_its_own(
    made: Made, tmp_path: Path, method: Any
) -> None:
    out = tmp_path / "merged.ckpt"
    said = merge(made, out, method=method, coefficients=[0.4])
    found, ten, hundred = (weights(path) for path in (out, made.ten, made.hundred))
    start, *tuned = (
        {n: v for n, v in weights(path).items() if n.startswith("backbone.")}
        for path in (made.source, made.ten, made.hundred)
    )
    merge_by = ties if method == "ties" else task_arithmetic
    for name, value in merge_by(start, tuned, 0.4).items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(found[name], value)
    assert torch.equal(found["heads.generated10.weight"], ten["heads.generated10.weight"])
    assert torch.equal(found["heads.generated100.weight"], hundred["heads.generated100.weight"])
    assert "fine-tuned alone" in said
    assert "trained jointly" not in said


def test_best_coefficient_on_validation_is_taken_and_compared(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "merged.ckpt"
    said = merge(made, out, coefficients=[0.0, 0.5, 1.0], joint=made.joint)
    record = read(out)["tl"]["provenance"]
    tried = {}
    for coefficient in (0.0, 0.5, 1.0):
        merge(made, tmp_path / f"{coefficient}.ckpt", coefficients=[coefficient])
        tried[coefficient] = read(tmp_path / f"{coefficient}.ckpt")["tl"]["provenance"]["val/acc"]
    assert record["val/acc"] == pytest.approx(max(tried.values()))
    assert "trained jointly" in said
    assert "chosen on these images" in said
    [metrics] = trainer(tmp_path).validate(
        MultiTaskModule(Tiny(), several().tasks), several(), ckpt_path=str(out), verbose=False
    )
    assert metrics["val/acc"] == pytest.approx(record["val/acc"])


def test_statistics_per_source_belong_to_the_merged_weights(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Bench.measure

    def smaller_is_better(bench: Bench, state: dict[str, torch.Tensor]) -> dict[str, float]:
        size = float(state["backbone.conv.weight"].abs().sum())
        return {**real(bench, state), bench.metric: -size}

    monkeypatch.setattr(Bench, "measure", smaller_is_better)
    content = yaml.safe_load(made.config.read_text())
    content["model"]["init_args"]["batch_norm"] = "per_source_statistics"
    config = tmp_path / "per_source.yaml"
    config.write_text(yaml.safe_dump(content))
    states, said = [], []
    # what is tried afterwards, 50 times as far and worse, leaves no statistics behind
    for number, tried in enumerate(([0.5], [0.5, 50.0])):
        out = tmp_path / f"{number}.ckpt"
        said.append(merge(made, out, coefficients=tried, configurations=[config]))
        states.append(weights(out))
        assert read(out)["tl"]["provenance"]["method"].endswith("coefficient 0.5")
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value)
    # by hand: the mean activation of each source's training images under the merged weights
    net = Tiny()
    net.conv.load_state_dict({key: states[0][f"backbone.conv.{key}"] for key in ("weight", "bias")})
    data = several()
    data.prepare_data()
    data.setup("fit")
    parts: dict[str, list[torch.Tensor]] = {"generated10": [], "generated100": []}
    with torch.no_grad():
        for batch, *_ in data.train_dataloader():
            moved: Any = data.on_after_batch_transfer(batch, 0)
            for source, (images, _) in moved.items():
                parts[source].append(net.conv(images).transpose(0, 1).flatten(1))
    for source, found in parts.items():
        wanted = torch.cat(found, 1).mean(1)
        torch.testing.assert_close(states[0][f"backbone.norm.running_mean_{source}"], wanted)
    # each fine-tuned network is scored as it is alone
    for path, options in ((made.ten, TEN), (made.hundred, HUNDRED)):
        own = GeneratedDataModule(**options, **SIZES)
        [metrics] = trainer(tmp_path).validate(
            TransferModule(Tiny(), own.task), own, ckpt_path=str(path), verbose=False
        )
        for text in said:
            [row] = [line.split() for line in text.splitlines() if own.data_name in line.split()]
            assert float(row[1]) == pytest.approx(metrics["val/acc"], abs=1e-4)


def test_result_is_a_checkpoint_that_tells_its_ingredients(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "merged.ckpt"
    merge(made, out, coefficients=[0.3])
    assert torch.serialization.get_unsafe_globals_in_checkpoint(out) == []
    assert [path.name for path in tmp_path.iterdir()] == ["merged.ckpt"]
    found = lineage(out)
    assert found.note == "task arithmetic, coefficient 0.3"
    names = [s.path for s in found.sources]
    assert names == ["source.ckpt", "generated10.ckpt", "generated100.ckpt"]
    target = TransferModule(Tiny(), GeneratedDataModule(**TEN).task, init_from=str(out))
    conv = weights(out)["backbone.conv.weight"]
    assert torch.equal(target.state_dict()["backbone.conv.weight"], conv)


def test_what_does_not_fit_is_one_line(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "merged.ckpt"
    given: dict[str, Any] = {"configurations": [made.config], "accelerator": "cpu"}
    with pytest.raises(ValueError, match=r"was fine-tuned from source.ckpt .* not from .*joint"):
        merge_checkpoints(made.joint, [made.ten], out, **given)
    with pytest.raises(ValueError, match=r"joint.ckpt does not record which checkpoint it started"):
        merge_checkpoints(made.source, [made.joint], out, **given)
    with pytest.raises(ValueError, match="The run has the task 'generated100', and no network"):
        merge_checkpoints(made.source, [made.ten], out, **given)
    with pytest.raises(ValueError, match="the configuration of a multi-task run with --config"):
        merge(made, out, configurations=())
    with pytest.raises(ValueError, match="at least one network fine-tuned"):
        merge_checkpoints(made.source, [], out, **given)
    with pytest.raises(ValueError, match="`method` must be one of task-arithmetic, ties, got 'x'"):
        merge(made, out, method="x")
    with pytest.raises(ValueError, match="`keep` must be above 0 and at most 1, got 20"):
        merge(made, out, method="ties", keep=20)
    with pytest.raises(ValueError, match="second head for generated10"):
        merge_checkpoints(made.source, [made.ten, made.ten], out, **given)
    content = yaml.safe_load(made.config.read_text())
    content["model"]["init_args"]["backbone"]["class_path"] = f"{__name__}.Longer"
    longer = tmp_path / "longer.yaml"
    longer.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"source.ckpt and the run of --config.* backbone.last"):
        merge(made, out, configurations=[longer])
    other = GeneratedDataModule(**TEN, **{**SIZES, "val_size": 0.2})
    net = TransferModule(Tiny(), other.task, init_from=str(made.source))
    path = saved(net, other, tmp_path, "split")
    with pytest.raises(ValueError, match="may be training images of the other"):
        merge_checkpoints(made.source, [path, made.hundred], out, **given)


def test_command_line_merges(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(path) for path in (made.source, made.ten, made.hundred)]
    out = tmp_path / "merged.ckpt"
    method = ["--method=ties", "--coefficients", "0.5", f"--config={made.config}"]
    main(["average", *paths, *method, "--keep=0.3", f"--out={out}", "--accelerator=cpu"])
    assert "TIES, keep 0.3 of 2 tasks" in capsys.readouterr().out
    main(["average", *paths, *method, f"--out={out}2", "--accelerator=cpu"])
    assert "TIES, keep 0.2 of 2 tasks" in capsys.readouterr().out


def test_numbers_are_kept_and_say_how_sure_they_are(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "merged.ckpt"
    said = merge(made, out, coefficients=[0.5, 1.0], joint=made.joint)
    found = read(out)["tl"]["provenance"]
    assert [each["coefficient"] for each in found["tried"]] == [0.5, 1.0]
    assert found["scores"].keys() == {"fine-tuned alone", "merged", "trained jointly"}
    assert found["validated"] == {"generated10": 30, "generated100": 100}
    assert "generated10: 30 samples (standard error up to 0.0913)" in said
    side = "least" if found["method"].endswith("coefficient 0.5") else "most"
    assert f"is taken, the {side} that was tried; try" in said
    assert found["notes"] == []


def test_a_source_that_saw_the_validation_images_is_named(made: Made, tmp_path: Path) -> None:
    first = GeneratedDataModule(**TEN, **SIZES, seed=7)
    source = saved(TransferModule(Tiny(), first.task), first, tmp_path, "source")
    tuned = []
    for options in (TEN, HUNDRED):
        data = GeneratedDataModule(**options, **SIZES)
        net = TransferModule(Tiny(), data.task, init_from=str(source))
        tuned.append(saved(net, data, tmp_path, data.data_name))
    other = made._replace(source=source, ten=tuned[0], hundred=tuned[1])
    said = merge(other, tmp_path / "merged.ckpt", coefficients=[0.5])
    assert f"{source} was trained on generated10" in said
    assert "may be among its training images" in said


def test_each_method_has_the_range_of_its_authors() -> None:
    assert COEFFICIENTS["task-arithmetic"] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert COEFFICIENTS["ties"][0] == 0.8
    assert COEFFICIENTS["ties"][-1] == 2.5


@pytest.fixture
def unsearched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Bench, "measure")  # names are checked before anything is measured


class DenseMade(NamedTuple):
    source: Path
    classes: Path
    metres: Path
    config: Path


@pytest.fixture(scope="module")
def dense(rooms: Rooms) -> DenseMade:
    source = rooms.saved("source", "classes")
    start = {"init_from": str(source)}
    return DenseMade(
        source,
        rooms.saved("from_source-classes", "classes", seed=1, **start),
        rooms.saved("from_source-metres", "metres", seed=2, **start),
        rooms.configuration("classes", "metres"),
    )


def merge_dense(dense: DenseMade, out: Path, **options: Any) -> str:
    given = {"configurations": [dense.config], "accelerator": "cpu", "coefficients": [0.5]}
    paths = [dense.classes, dense.metres]
    return merge_checkpoints(dense.source, paths, out, **{**given, **options})


def test_decoders_are_merged_with_statistics_of_their_own(
    dense: DenseMade, rooms: Rooms, tmp_path: Path
) -> None:
    out = tmp_path / "merged.ckpt"
    said = merge_dense(dense, out)
    found = weights(out)
    for task, path in (("classes", dense.classes), ("metres", dense.metres)):
        assert any(line.split()[0] == task for line in said.splitlines())
        own = {n: v for n, v in weights(path).items() if n.startswith(f"heads.{task}.")}
        estimated = [name for name in own if name.endswith("running_mean")]
        assert len(estimated) == 2
        for name, value in own.items():
            if name.endswith(("running_mean", "running_var")):
                assert not torch.allclose(found[name], value), name
            elif not name.endswith("num_batches_tracked"):
                assert torch.equal(found[name], value), name
    scores = read(out)["tl"]["provenance"]["scores"]
    # alone, each decoder keeps the statistics of its own training
    for task, path in (("classes", dense.classes), ("metres", dense.metres)):
        net, data = rooms.module(task), rooms.data(task)
        [metrics] = trainer(tmp_path).validate(net, data, ckpt_path=str(path), verbose=False)
        score = metrics[f"val/{task}/{net.tasks[task].score}"]
        assert scores["fine-tuned alone"][task] == pytest.approx(score, rel=1e-4)
    both = ("classes", "metres")
    net, data = rooms.module(*both), rooms.data(*both)
    [metrics] = trainer(tmp_path).validate(net, data, ckpt_path=str(out), verbose=False)
    for task in both:
        score = metrics[f"val/{task}/{net.tasks[task].score}"]
        assert scores["merged"][task] == pytest.approx(score, rel=1e-4)


def test_classes_of_a_merged_decoder_are_in_the_order_of_the_run(
    dense: DenseMade, tmp_path: Path
) -> None:
    content, turned = read(dense.classes), tmp_path / "turned.ckpt"
    content["tl"]["class_names"]["classes"].reverse()
    torch.save(content, turned)
    merge_dense(dense._replace(classes=turned), tmp_path / "merged.ckpt")
    found, before = weights(tmp_path / "merged.ckpt"), weights(dense.classes)
    for name in ("last.weight", "last.bias"):
        key = f"heads.classes.{name}"
        assert torch.equal(found[key], before[key].flip(0))
    key = "heads.classes.lateral.0.weight"
    assert torch.equal(found[key], before[key])


@pytest.mark.usefixtures("unsearched")
def test_decoders_that_do_not_fit_are_named_before_the_search(
    dense: DenseMade, tmp_path: Path
) -> None:
    out = tmp_path / "merged.ckpt"
    for source, changed, said in (
        (
            "classes",
            {"width": 5},
            r"the head of 'classes' is not that of the run of --config: Only",
        ),
        ("metres", {"name": "depths"}, "has a head for metres, the run has heads for classes, dep"),
    ):
        content = yaml.safe_load(dense.config.read_text())
        [task] = content["data"]["init_args"]["sources"][source]["init_args"]["tasks"]
        task["init_args"] |= changed
        config = tmp_path / f"{source}.yaml"
        config.write_text(yaml.safe_dump(content))
        with pytest.raises(ValueError, match=said):
            merge_dense(dense, out, configurations=[config])
    with pytest.raises(ValueError, match="has a second head for classes"):
        merge_dense(dense._replace(metres=dense.classes), out)
    with pytest.raises(ValueError, match="'metres', and no network does the joint checkpoint have"):
        merge_dense(dense, out, joint=dense.classes)

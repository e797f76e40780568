"""Arrays in memory or in files, of any number of channels and dimensions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from tests.small import trainer
from tl import Classification, MultiTaskModule, Regression, TransferModule
from tl.data import Augment, TensorDataModule
from tl.data.errors import DataError

KIND = Classification("kind", 3)


class Flat(nn.Module):
    """Mean and deviation of each channel, of inputs with any number of dimensions after it."""

    num_features = 4

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * channels, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features ``(N, 4)``."""
        channels = inputs.flatten(2)
        features: Tensor = self.linear(torch.cat([channels.mean(2), channels.std(2)], 1))
        return features


def pictures(count: int = 40, channels: int = 3, size: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, size, size)
    return torch.randint(0, 200, shape, generator=generator, dtype=torch.uint8)


def labels(count: int = 40) -> Tensor:
    return torch.arange(count) % 3


def read(inputs: Any, targets: Any, **options: Any) -> TensorDataModule:
    return TensorDataModule(inputs, targets, **{"tasks": [KIND], "batch_size": 8, **options})


def line(data: TensorDataModule, stage: str = "fit") -> str:
    with pytest.raises(DataError) as found:
        data.setup(stage)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("channels", [1, 3, 13])
def test_bytes_are_standardised_by_the_training_samples(channels: int) -> None:
    images = pictures(channels=channels)
    data = read(images, labels(), val_size=0.5)
    data.setup("fit")
    train, val = (images[data.splits[s].rows].double() for s in ("train", "val"))
    [(name, (mean, std))] = data._statistics.items() if data._statistics else []
    assert name == ""
    torch.testing.assert_close(mean.double(), train.mean((0, 2, 3)), atol=1e-4, rtol=1e-6)
    seen, _ = data.on_after_batch_transfer((images[data.splits["train"].rows], None), 0)
    assert seen.dtype is torch.float32
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(channels), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std((0, 2, 3), correction=0), torch.ones(channels))
    others, _ = data.on_after_batch_transfer((images[data.splits["val"].rows], None), 0)
    wanted = (val - train.mean((0, 2, 3))[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(others, wanted.float(), atol=1e-5, rtol=1e-5)


def test_a_constant_channel_is_not_divided_by_zero() -> None:
    images = pictures()
    images[:, 1] = 7
    data = read(images, labels())
    data.setup("fit")
    seen, _ = data.on_after_batch_transfer((images, None), 0)
    assert seen.isfinite().all()
    assert not seen[:, 1].any()


def test_numbers_that_are_no_bytes_are_taken_as_they_are() -> None:
    signals = np.random.default_rng(0).normal(size=(40, 2, 16))
    data = read(signals, labels())
    data.setup("fit")
    [inputs, targets] = next(iter(data.train_dataloader()))
    inputs, targets = data.on_after_batch_transfer((inputs, targets), 0)
    assert (inputs.dtype, inputs.shape) == (torch.float32, (8, 2, 16))
    assert data.describe()["statistics"] == {}
    trainer(Path()).fit(TransferModule(Flat(2), KIND), data)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint16, torch.int16, torch.uint32])
def test_other_levels_are_standardised_as_bytes_are(kind: torch.dtype, tmp_path: Path) -> None:
    images = pictures() // 2
    data, plain = read(images.to(kind), labels()), read(images, labels())
    for each in (data, plain):
        each.setup("fit")
    batch = (images[:4], None)
    found = data.standardise((images[:4].to(kind), None))
    assert torch.equal(torch.as_tensor(found[0]), torch.as_tensor(plain.standardise(batch)[0]))
    path, _ = saved(tmp_path, data)
    with pytest.raises(DataError, match=r"are bytes of shape .* trained on are u?int\d+ of shape"):
        trainer(tmp_path).test(
            TransferModule(Flat(), KIND),
            read(images, labels(), test_inputs=images, test_targets=labels()),
            str(path),
            verbose=False,
        )


def test_integers_that_may_be_indices_stay() -> None:
    data = read(torch.arange(80).view(40, 2).int(), labels())
    data.setup("fit")
    assert data.describe()["statistics"] == {}
    assert next(iter(data.train_dataloader()))[0].dtype is torch.int32


def test_dicts_of_inputs_and_targets() -> None:
    inputs = {"image": pictures(channels=1), "ids": torch.arange(80).view(40, 2)}
    targets = {"kind": labels(), "level": torch.linspace(0, 1, 40)}
    tasks = [Classification("kind", 3, target="kind"), Regression("level", target="level")]
    data = read(inputs, targets, tasks=tasks)
    data.setup("fit")
    given, target = next(iter(data.train_dataloader()))
    rows = given["ids"][:, 0] // 2
    assert torch.equal(given["image"], inputs["image"][rows])
    assert torch.equal(target["kind"], targets["kind"][rows])
    assert torch.equal(target["level"], targets["level"][rows])
    seen, _ = data.on_after_batch_transfer((given, target), 0)
    assert seen["image"].dtype is torch.float32
    assert seen["ids"].dtype is torch.int64
    assert data.task is None
    assert data.describe()["shapes"]["train"] == {"ids": [2], "image": [1, 6, 6]}


def test_files_hold_the_same(tmp_path: Path) -> None:
    images, numbers = pictures(), labels()
    np.save(tmp_path / "images.npy", images.numpy())
    np.save(tmp_path / "labels.npy", numbers.numpy())
    safetensors.torch.save_file({"kind": numbers}, tmp_path / "targets.safetensors")
    memory = read(images, numbers)
    files = read(str(tmp_path / "images.npy"), tmp_path / "labels.npy")
    named = read(
        tmp_path / "images.npy",
        str(tmp_path / "targets.safetensors"),
        tasks=[Classification("kind", 3, target="kind")],
    )
    mixed = read({"image": str(tmp_path / "images.npy")}, numbers)
    for data in (memory, files, named, mixed):
        data.setup("fit")
    assert files.fingerprint == memory.fingerprint
    assert named.describe()["samples"] == memory.describe()["samples"]
    assert mixed.describe()["shapes"]["val"] == {"image": [3, 6, 6]}


def test_without_a_command_line_the_seed_is_0() -> None:
    assert read(pictures(), labels()).seed == read(pictures(), labels(), seed=None).seed == 0


def test_the_split_follows_the_seed_and_shares_no_sample() -> None:
    def split(seed: int) -> list[list[int]]:
        data = read(pictures(), labels(), val_size=0.25, seed=seed)
        data.setup("fit")
        return [data.splits[name].rows.tolist() for name in ("train", "val")]

    train, val = split(0)
    assert (len(train), len(val)) == (30, 10)
    assert sorted(train + val) == list(range(40))
    assert split(0) == [train, val]
    assert split(1) != [train, val]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "`batch_size` must be 1 or more, got 0"),
        ({"val_size": 1.0}, "`val_size` must be 0 or more and below 1, got 1"),
        ({"tasks": []}, "`tasks` is empty"),
    ],
)
def test_options_are_checked(options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(pictures(), labels(), **options)


@pytest.mark.parametrize(
    ("name", "value", "kind", "said"),
    [
        ("batch_size", 0, ValueError, "`batch_size` must be 1 or more, got 0"),
        ("val_size", 1.0, ValueError, "`val_size` must be 0 or more and below 1, got 1"),
        (
            "sampling",
            "even",
            ValueError,
            "`sampling` must be one of shuffled, balanced, got 'even'",
        ),
        ("augment", "flip", TypeError, "`augment` must be an Augment or null, got 'flip'"),
        ("batchsize", 4, AttributeError, "no option 'batchsize'. Did you mean 'batch_size'?"),
        ("inputs", pictures(), AttributeError, "`inputs` cannot change; make a new TensorDataM"),
        ("test_targets", labels(), AttributeError, "`test_targets` cannot change; make a new"),
    ],
)
def test_options_set_later_are_checked(
    name: str, value: Any, kind: type[Exception], said: str
) -> None:
    data = read(pictures(), labels())
    before = dict(data.__dict__)
    with pytest.raises(kind, match=re.escape(said)):
        setattr(data, name, value)
    assert data.__dict__ == before


def test_tasks_set_later_are_read_at_the_next_setup() -> None:
    data = read(pictures(), {"a": labels(), "b": torch.arange(40.0)}, tasks=[BOTH[0]])
    data.setup("fit")
    data.tasks = (BOTH[1],)
    data.setup("fit")
    targets = next(iter(data.train_dataloader()))[1]["b"]
    assert targets.dtype == torch.float32
    assert len(targets.unique()) == 8


def test_subclasses_elsewhere_may_keep_what_they_were_given() -> None:
    class Kept(TensorDataModule):
        def __init__(self, inputs: Tensor, targets: Tensor) -> None:
            super().__init__(inputs, targets, [KIND])
            self.inputs = inputs

    assert len(Kept(pictures(), labels()).inputs) == 40


BOTH = [Classification("a", 3, target="a"), Regression("b", target="b")]


@pytest.mark.parametrize(
    ("inputs", "targets", "options", "said"),
    [
        (pictures(), labels(39), {}, "`inputs` have 40 samples, `targets` 39."),
        (
            pictures(),
            {"a": labels(), "b": torch.rand(41)},
            {"tasks": BOTH},
            "`inputs` have 40 samples, `targets` 'b' 41.",
        ),
        (
            {"a": pictures(40), "b": pictures(39)},
            labels(),
            {},
            "`inputs`: The inputs of a batch must have one number of samples, got a 40, b 39.",
        ),
        (pictures(0), labels(0), {}, "`inputs` holds no samples."),
        ({}, labels(), {}, "`inputs` is an empty dict."),
        (object(), labels(), {}, "`inputs` is a object, of which no tensor can be made"),
        (np.array(["a", "b"]), labels(2), {}, "`inputs` is a ndarray, of which no tensor"),
        (pictures(2), labels(2), {"val_size": 0.9}, "`val_size=0.9` leaves none of 2 samples"),
        (pictures(), labels() + 1, {}, "sample 2 of the batch has the label 3"),
        (pictures(), torch.rand(40), {}, "Task 'kind' is a classification, and sample 0 of"),
        (pictures(), torch.rand(40, 2), {}, "are of shape (40, 2); expected class indices 0 to 2"),
        (
            pictures(),
            {"a": labels()},
            {"tasks": BOTH},
            "Task 'b' reads the target 'b', `targets` has a.",
        ),
        (
            pictures(),
            labels(),
            {"test_inputs": pictures(size=8), "test_targets": labels()},
            "Samples of `test_inputs` are bytes of shape (3, 8, 8); those that the model is",
        ),
        (
            pictures(),
            labels(),
            {"test_inputs": pictures() / 255, "test_targets": labels()},
            "Samples of `test_inputs` are numbers of shape (3, 6, 6); those that the model is",
        ),
        (pictures(), None, {}, "`targets` are needed to train"),
        (pictures(), labels().float(), {}, "its targets are torch.float32 numbers; expected class"),
        (pictures(), -torch.ones(40).long(), {}, "All targets of the 36 training samples are miss"),
        (
            pictures(),
            {"a": -torch.ones(40).long(), "b": torch.full((40,), torch.nan)},
            {"tasks": BOTH},
            "All targets of the 36 training samples are missing",
        ),
        (torch.zeros(4, 3, dtype=torch.complex64), labels(4), {}, "`inputs` holds complex numbers"),
        (pictures(), labels(), {"balanced_by": "kind"}, "`balanced_by` is 'kind', and `sampling`"),
    ],
)
def test_what_does_not_fit_is_one_line(inputs: Any, targets: Any, options: Any, said: str) -> None:
    assert said in line(read(inputs, targets, **options))


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", pictures().numpy())
    whole = (tmp_path / "images.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:200])
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 20)
    np.save(tmp_path / "code.npy", np.array([object()]), allow_pickle=True)
    (tmp_path / "images.csv").write_text("1,2")
    assert "no such file" in line(read(tmp_path / "none.npy", labels()))
    for name in ("cut.npy", "cut.safetensors", "code.npy"):
        assert f"{name} cannot be read" in line(read(tmp_path / name, labels()))
    wanted = "must be a .npy or .safetensors file"
    assert wanted in line(read(str(tmp_path / "images.csv"), labels()))


def saved(folder: Path, data: TensorDataModule, channels: int = 3) -> tuple[Path, TransferModule]:
    module = TransferModule(Flat(channels), KIND)
    run = trainer(
        folder,
        enable_checkpointing=True,
        callbacks=[ModelCheckpoint(folder, "last", enable_version_counter=False)],
    )
    run.fit(module, data)
    return folder / "last.ckpt", module


def test_an_evaluation_of_other_data_takes_the_statistics_of_the_checkpoint(
    tmp_path: Path,
) -> None:
    path, module = saved(tmp_path, read(pictures(), labels(), seed=3, val_size=0.2))
    bright = pictures(30, seed=1) // 2 + 100
    other = read(bright, labels(30), test_inputs=bright, test_targets=labels(30))
    trainer(tmp_path).test(TransferModule(Flat(), KIND), other, str(path), verbose=False)
    trained = read(pictures(), labels(), seed=3, val_size=0.2)
    trained.setup("fit")
    assert other.describe()["statistics"] == trained.describe()["statistics"]
    assert (other.seed, other.val_size) == (3, 0.2)
    # validation by other settings than the checkpoint's still holds out its samples
    again = read(pictures(), labels(), seed=0, val_size=0.5)
    run = trainer(tmp_path)
    run.validate(TransferModule(Flat(), KIND), again, str(path), verbose=False)
    assert torch.equal(again.splits["val"].rows, trained.splits["val"].rows)
    found = {name: float(value) for name, value in run.callback_metrics.items()}
    run = trainer(tmp_path)
    run.validate(module, trained, verbose=False)
    assert found == {name: float(value) for name, value in run.callback_metrics.items()}


def test_training_after_an_evaluation_has_its_own_statistics_and_split_again() -> None:
    bright = pictures(30, seed=1) // 2 + 100
    plain, data = read(bright, labels(30)), read(bright, labels(30))
    plain.setup("fit")
    trained = read(pictures(), labels(), seed=3, val_size=0.2)
    trained.setup("fit")
    data.adopt(trained.describe())
    data.adopt(trained.describe())  # of a second evaluation
    data.setup("validate")
    assert data.describe()["statistics"] == trained.describe()["statistics"]
    data.setup("fit")
    assert data.describe() == plain.describe()
    data.adopt(trained.describe())
    data.seed = 5  # the next fold
    data.setup("fit")
    assert (data.seed, data.val_size) == (5, 0.1)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float16, torch.float32])
def test_inputs_have_the_precision_of_the_weights(
    tmp_path: Path, precision: Any, kind: torch.dtype
) -> None:
    data = read(pictures().to(kind), labels(), augment=Augment(padding=1))
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1, precision=precision)
    run.fit(TransferModule(Flat(), KIND), data)
    assert run.callback_metrics["val/loss"].isfinite()


def test_test_targets_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="`test_targets` are of `test_inputs`, which are not set"):
        read(pictures(), labels(), test_targets=labels())


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (pictures(channels=1), r"`inputs` are bytes of shape \(1, 6, 6\)"),
        (pictures() / 255, r"`inputs` are numbers of shape \(3, 6, 6\)"),
    ],
)
def test_other_inputs_than_the_checkpoint_s_are_refused(
    inputs: Tensor, said: str, tmp_path: Path
) -> None:
    path, _ = saved(tmp_path, read(pictures(), labels()))
    other = read(inputs, labels(), test_inputs=inputs, test_targets=labels())
    with pytest.raises(DataError, match=said + ".* trained on are bytes of shape"):
        trainer(tmp_path).test(TransferModule(Flat(), KIND), other, str(path), verbose=False)


def test_a_run_resumes_on_the_same_samples_only(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, read(pictures(), labels()))
    run = trainer(tmp_path, max_epochs=3)
    run.fit(TransferModule(Flat(), KIND), read(pictures(), labels()), ckpt_path=str(path))
    assert run.global_step == 3 * 4
    for other in (read(pictures(seed=1), labels()), read(pictures(), labels(), seed=1)):
        with pytest.raises(DataError, match="the run to resume was trained on real:"):
            trainer(tmp_path, max_epochs=3).fit(
                TransferModule(Flat(), KIND), other, ckpt_path=str(path)
            )


def test_several_tasks_of_one_array_of_inputs_train_together(tmp_path: Path) -> None:
    targets = {"a": labels(), "b": torch.rand(40)}
    data = read(pictures(), targets, tasks=BOTH)
    run = trainer(tmp_path)
    run.fit(MultiTaskModule(Flat(), data.tasks), data)
    assert {"val/a/acc", "val/b/mae", "val/b/r2", "val/loss"} <= set(run.callback_metrics)
    assert "val/acc" not in run.callback_metrics


def test_every_epoch_has_an_order_of_its_own() -> None:
    data = read(torch.arange(40)[:, None], labels(), val_size=0.0)
    data.setup("fit")
    assert data.val_dataloader() == []
    loader = data.train_dataloader()
    epochs = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        epochs.append(torch.cat([batch for batch, _ in loader]).flatten().tolist())
    assert sorted(epochs[0]) == list(range(40))
    assert epochs[0] != epochs[1]


def test_tests_and_predictions(tmp_path: Path) -> None:
    images, numbers = pictures(), labels()
    data = read(images, numbers, test_inputs=pictures(9, seed=1), test_targets=labels(9))
    module, run = TransferModule(Flat(), KIND), trainer(tmp_path)
    run.fit(module, data)
    [tested] = run.test(module, data, verbose=False)
    assert set(tested) == {"test/acc", "test/loss"}
    assert module.samples["test"] == {"kind": 9}
    found: Any = run.predict(module, data)
    assert torch.cat([part["kind"][1] for part in found]).tolist() == list(range(9))
    unlabelled = read(images, numbers, test_inputs=pictures(9, seed=1))
    again: Any = trainer(tmp_path).predict(module, unlabelled)
    for one, two in zip(found, again, strict=True):
        assert torch.equal(one["kind"][0], two["kind"][0])
    without = read(images, numbers)
    whole: Any = trainer(tmp_path).predict(module, without)
    assert torch.cat([part["kind"][1] for part in whole]).tolist() == list(range(40))
    with pytest.raises(DataError, match="give `test_inputs` and `test_targets`"):
        trainer(tmp_path).test(module, without, verbose=False)
    with pytest.raises(DataError, match="give `test_targets`"):
        trainer(tmp_path).test(module, unlabelled, verbose=False)

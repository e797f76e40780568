from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from tests import small
from tl import Classification, GeneratedDataModule, MultiTaskDataModule, MultiTaskModule
from tl.backbones import ResNet20
from tl.data import Augment


class Tiny(nn.Module):
    """The smallest network with batch norm; any module with `num_features` is a backbone."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.passes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        features: Tensor = functional.relu(self.norm(self.conv(images))).mean((2, 3))
        return features


TASKS = (Classification("a", 10, source="a"), Classification("b", 5, source="b"))


def batch() -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a": (torch.randn(6, 3, 16, 16, generator=generator), torch.arange(6)),
        "b": (torch.randn(4, 3, 16, 16, generator=generator) + 3, torch.arange(4)),
    }


def module(**settings: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(Tiny(), **{"tasks": TASKS, **settings})


def trainer(**settings: Any) -> Trainer:
    return Trainer(
        **{
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
            **settings,
        }
    )


def test_the_loss_is_the_sum_of_the_tasks_cross_entropies() -> None:
    ours = module()
    losses, outputs = ours.task_losses(batch())
    together = ours.backbone(torch.cat([images for images, _ in batch().values()]))
    wanted = functional.cross_entropy(ours.heads["a"](together[:6]), batch()["a"][1])
    torch.testing.assert_close(losses["a"], wanted)
    assert ours.training_step(batch(), 0).item() == pytest.approx(
        sum(v.item() for v in losses.values())
    )
    assert outputs["b"][0].shape == (4, 5)


@pytest.mark.parametrize(
    ("choice", "passes"),
    [("joint", [10]), ("per_source", [6, 4]), ("per_source_statistics", [6, 4])],
)
def test_passes_of_the_backbone(choice: Any, passes: list[int]) -> None:
    ours = module(batch_norm=choice)
    ours.training_step(batch(), 0)
    assert ours.backbone.passes == passes


def test_per_source_normalises_each_source_alone_and_joint_does_not() -> None:
    for choice, alike in (("joint", False), ("per_source", True)):
        ours = module(batch_norm=choice)
        together = ours.features({s: images for s, (images, _) in batch().items()})
        alone = ours.backbone(batch()["a"][0])
        assert torch.allclose(together["a"].vector, alone) is alike


def test_own_statistics_keep_evaluation_right_on_shifted_sources() -> None:
    """One set of running statistics cannot serve two sources that look different."""

    def gap(choice: Any) -> float:
        ours = module(batch_norm=choice)
        images: dict[str | None, Tensor] = {s: pixels for s, (pixels, _) in batch().items()}
        for _ in range(100):
            trained = ours.features(images)
        ours.eval()
        evaluated = ours.features(images)
        return max((trained[s].vector - evaluated[s].vector).abs().max().item() for s in images)

    assert gap("per_source_statistics") < 0.5 * gap("per_source")


def test_tasks_may_share_a_source() -> None:
    tasks = (
        Classification("fine", 10, target="fine"),
        Classification("coarse", 5, target="coarse"),
    )
    ours = module(tasks=tasks)
    images, labels = batch()["a"]
    losses, _ = ours.task_losses((images, {"fine": labels, "coarse": labels // 2}))
    assert set(losses) == {"fine", "coarse"}
    assert ours.backbone.passes == [6]


def test_a_source_that_ran_out_is_left_out() -> None:
    losses, _ = module().task_losses({"a": batch()["a"], "b": None})
    assert set(losses) == {"a"}


def test_a_batch_of_unknown_sources_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tasks read a, b, the batch holds c, d"):
        module().task_losses({"c": batch()["a"], "d": batch()["b"]})


def test_images_of_two_sizes_need_a_pass_each() -> None:
    mixed = {**batch(), "b": (torch.randn(4, 3, 8, 8), torch.arange(4))}
    with pytest.raises(ValueError, match=r"a \(3, 16, 16\), b \(3, 8, 8\).*per_source"):
        module().training_step(mixed, 0)
    module(batch_norm="per_source").training_step(mixed, 0)


def test_label_smoothing_acts_in_training_only() -> None:
    plain, smooth = module(), module(label_smoothing=0.3)
    assert plain.training_step(batch(), 0) != smooth.training_step(batch(), 0)
    for one in (plain, smooth):
        one.eval()
    assert torch.equal(
        torch.stack(list(module().eval().task_losses(batch())[0].values())),
        torch.stack(list(module(label_smoothing=0.3).eval().task_losses(batch())[0].values())),
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": []}, "`tasks` is empty"),
        ({"tasks": [TASKS[0], TASKS[0]]}, "names must differ"),
        ({"batch_norm": "none"}, "`batch_norm` must be one of joint, per_source"),
        ({"label_smoothing": 1.0}, "`label_smoothing` must be .* got 1.0"),
    ],
)
def test_bad_arguments(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(**settings)


def test_a_backbone_without_num_features_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear has no integer attribute `num_features`"):
        MultiTaskModule(nn.Linear(3, 3), TASKS)


def data(**settings: Any) -> MultiTaskDataModule:
    return MultiTaskDataModule(
        sources={
            "ten": GeneratedDataModule(classes=10, train_size=100, test_size=45),
            "hundred": GeneratedDataModule(
                classes=100, train_size=200, test_size=100, targets="both"
            ),
        },
        **{"batch_size": 25, "val_size": 0.5, "eval_batch_size": 20, **settings},
    )


def test_metrics_equal_a_count_by_hand() -> None:
    made = data()
    ours = MultiTaskModule(Tiny(), made.tasks)
    run = trainer()
    run.fit(ours, made)
    logged = set(run.callback_metrics)
    [found] = run.test(ours, made, verbose=False)
    ours.eval()
    source: Any = made.sources["ten"]
    source.setup("test")
    images, labels = source.transform(source.splits["test"].__getitems__(range(45)), None)
    assert isinstance(labels, Tensor)
    with torch.no_grad():
        logits = ours(images, "ten")["ten"]
    assert found["test/ten/acc"] == pytest.approx(
        (logits.argmax(1) == labels).float().mean().item()
    )
    assert found["test/ten/loss"] == pytest.approx(
        functional.cross_entropy(logits, labels).item(), rel=1e-4
    )
    tasks = ("ten", "hundred_fine", "hundred_coarse")
    assert found["test/acc"] == pytest.approx(sum(found[f"test/{t}/acc"] for t in tasks) / 3)
    assert found["test/loss"] == pytest.approx(sum(found[f"test/{t}/loss"] for t in tasks))
    what = ("loss", "acc", *(f"{t}/{w}" for t in tasks for w in ("loss", "acc")))
    assert logged == {f"{split}/{w}" for split in ("train", "val") for w in what}


def test_a_checkpoint_loads_without_unpickling_code_and_is_whole(tmp_path: Path) -> None:
    made = data()
    ours = MultiTaskModule(Tiny(), made.tasks, batch_norm="per_source_statistics")
    run = trainer()
    run.fit(ours, made)
    path = tmp_path / "run.ckpt"
    run.save_checkpoint(path)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(path) == []
    again = MultiTaskModule.load_from_checkpoint(path, backbone=Tiny(), weights_only=True)
    assert again.tasks == ours.tasks
    assert again.batch_norm == "per_source_statistics"
    for name, value in ours.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    record = torch.load(path, weights_only=True)["tl"]
    assert record["data"]["ten"]["fingerprint"] == made.sources["ten"].fingerprint
    assert [task["name"] for task in record["tasks"]] == list(ours.tasks)


def test_a_head_that_does_not_fit_the_data_is_refused() -> None:
    made = data()
    tasks = [Classification("ten", 12, source="ten"), *made.tasks[1:]]
    with pytest.raises(ValueError, match="'ten' has a head of 12 classes, the data have 10"):
        trainer().fit(MultiTaskModule(Tiny(), tasks), made)


def test_it_learns() -> None:
    made = data(val_size=0.1, augment=Augment(padding=0, flip=False))
    tasks = made.tasks[:1]
    torch.manual_seed(0)
    ours = MultiTaskModule(
        ResNet20(), tasks, optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)
    )
    run = trainer(max_epochs=10, limit_val_batches=0)
    run.fit(ours, made)
    assert run.callback_metrics["train/loss"] < 2.0  # of log(10) = 2.3


def test_datamodules_of_others_work() -> None:
    class Plain(LightningDataModule):
        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(cast("Any", [batch(), batch()]), batch_size=None)

        def val_dataloader(self) -> list[DataLoader[Any]]:
            return [self.train_dataloader(), self.train_dataloader()]

    run = trainer()
    run.fit(module(), Plain())
    # of two loaders each has its own
    assert {"val/a/acc/dataloader_idx_0", "val/a/acc/dataloader_idx_1"} <= set(run.callback_metrics)


def test_a_task_is_added_to_a_network_that_had_fewer(tmp_path: Path) -> None:
    """By `init_from` with `init_heads`; a resume of the smaller run is something else."""
    few = small.one_source()
    smaller = small.multitask_module(few)
    run = small.trainer(tmp_path / "few", max_epochs=1)
    run.fit(smaller, few)
    path = tmp_path / "few.ckpt"
    run.save_checkpoint(path)

    more = small.two_sources()
    still: dict[str, Any] = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.0)}
    larger = small.multitask_module(more, init_from=str(path), init_heads=True, **still)
    start = larger.heads["hundred_fine"].get_parameter("weight").clone()
    small.trainer(tmp_path / "more", max_steps=1).fit(larger, more)
    for name in ("weight", "bias"):
        one, other = (m.heads["ten"].get_parameter(name) for m in (larger, smaller))
        assert torch.equal(one, other)
    assert torch.equal(larger.heads["hundred_fine"].get_parameter("weight"), start)
    one, other = (m.backbone.get_parameter("conv.weight") for m in (larger, smaller))
    assert torch.equal(one, other)

    with pytest.raises(
        ValueError, match=r"tasks ten \(10 classes\), this model ten .*`init_heads`"
    ):
        small.trainer(tmp_path / "resumed", max_epochs=2).fit(larger, more, ckpt_path=str(path))
    with pytest.raises(ValueError, match="`init_heads` loads heads from `init_from`"):
        small.multitask_module(more, init_heads=True)

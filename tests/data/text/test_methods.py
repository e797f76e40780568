"""Every balancing overlay, strategy and penalty takes steps on text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.balancing.conftest import OVERLAYS, micro_batches, overlay, parsed
from tests.small import every_strategy, name_of, trainer
from tests.text import CONFIG, adam, build, read
from tl import MultiTaskModule, TransferModule
from tl.backbones import LoraBackbone, TextBackbone
from tl.transfer import BitFit, NormTuning, StochNorm, Strategy
from tl.transfer.penalties import BSS, DELTA, EWC, L2SP, CoTuning, Distillation, LwF

BALANCERS = sorted(path.stem for path in OVERLAYS.glob("*.yaml"))
TRANSFER = OVERLAYS.parent / "transfer"
PARTIAL: dict[str, Any] = {"bitfit": BitFit, "norm_tuning": NormTuning}
PENALTIES = ("bss", "co_tuning", "distillation", "ewc", "l2_sp", "lwf")


def moved(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """Stages whose weights changed, all of them finite."""
    parameters = dict(module.named_parameters())
    assert all(p.isfinite().all() for p in parameters.values())
    return {name for name, value in before.items() if not torch.equal(value, parameters[name])}


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BALANCERS)
def test_a_balancing_overlay_trains_on_text(name: str, tmp_path: Path) -> None:
    data = read(targets=["topic", "sentiment"])
    spec = overlay(name)
    options = spec.get("init_args", {})
    if isinstance(options.get("weights"), dict):  # by task
        options["weights"] = dict(zip([t.name for t in data.tasks], (1.0, 0.5), strict=True))
    module = build(data, balancer=parsed(spec))
    before = copied(module)
    size = micro_batches(name)
    settings = {"limit_train_batches": 2 * size, "accumulate_grad_batches": size}
    trainer(tmp_path, max_epochs=1, **settings).fit(module, data)
    changed = moved(module, before)
    assert {"heads.sentences_topic.weight", "heads.sentences_sentiment.weight"} <= changed
    assert "backbone.model.embeddings.word_embeddings.weight" in changed


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier of topics."""
    folder = tmp_path_factory.mktemp("source")
    data, keep = read(), ModelCheckpoint(folder, "source")
    run = trainer(folder, max_epochs=1, enable_checkpointing=True, callbacks=[keep])
    run.fit(build(data), data)
    return str(folder / "source.ckpt")


@pytest.mark.parametrize("strategy", every_strategy(), ids=name_of)
def test_a_strategy_trains_what_it_says(strategy: Strategy, source: str, tmp_path: Path) -> None:
    data = read(tokenizer=source)
    module = build(data, strategy=strategy, init_from=source)
    before = copied(module)
    trainer(tmp_path, max_epochs=5, limit_train_batches=1).fit(module, data)
    stages = ["embeddings", "layer1", "layer2", "head"]
    firsts = strategy.first_epochs(stages)
    trained = {stage for stage, epoch in firsts.items() if epoch is not None}
    place = {"embeddings": "model.embeddings.", "head": "heads.", "layer1": "layer.0."}
    place["layer2"] = "layer.1."
    changed = moved(module, before)
    assert {s for s in stages if any(place[s] in name for name in changed)} == trained


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_adds_its_term(name: str, source: str, tmp_path: Path) -> None:
    data = read(tokenizer=source)
    makers: dict[str, Any] = {
        "bss": BSS,
        "co_tuning": CoTuning,
        "distillation": lambda: Distillation(source),
        "ewc": lambda: EWC(read(tokenizer=source), images=4),
        "l2_sp": L2SP,
        "lwf": LwF,
    }
    penalty = makers[name]()
    module = build(data, penalties=penalty, init_from=source)
    before = copied(module)
    trainer(tmp_path, max_epochs=1, limit_train_batches=2).fit(module, data)
    assert moved(module, before)
    values = module.penalty_values()
    assert values
    assert all(value.isfinite() for value in values.values())


def test_no_overlay_is_left_out() -> None:
    tried = {*PENALTIES, *PARTIAL, "delta", "lora", "stoch_norm"}
    tried |= {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name_of(s)).lower() for s in every_strategy()}
    tried = {{"lpft": "lp_ft"}.get(name, name) for name in tried}
    found = {path.stem for path in TRANSFER.glob("*.yaml")}
    assert found - tried == {"bit_hyper_rule"}  # full fine-tuning, with a callback for images


@pytest.mark.parametrize("name", PARTIAL)
def test_partial_tuning_trains_its_part_and_the_head(
    name: str, source: str, tmp_path: Path
) -> None:
    data = read(tokenizer=source)
    module = build(data, strategy=PARTIAL[name](), init_from=source)
    before = copied(module)
    trainer(tmp_path, max_epochs=1, limit_train_batches=2).fit(module, data)
    changed = {n for n in moved(module, before) if n.startswith("backbone.")}
    part = {"bitfit": ".bias", "norm_tuning": "LayerNorm"}[name]
    assert changed
    assert all(part in n for n in changed)


def test_a_strategy_for_batch_norm_is_refused(source: str, tmp_path: Path) -> None:
    data = read(tokenizer=source)
    module = build(data, strategy=StochNorm(), init_from=source)
    with pytest.raises(ValueError, match="StochNorm needs a backbone with batch norm"):
        trainer(tmp_path, max_epochs=1, limit_train_batches=2).fit(module, data)


def test_a_penalty_on_feature_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="the backbone TextBackbone has none after a stem"):
        build(read(), penalties=DELTA())


def test_lora_trains_adapters_and_the_head(source: str, tmp_path: Path) -> None:
    data = read(tokenizer=source)
    net = LoraBackbone(TextBackbone(config=CONFIG), rank=2, norms=False)
    module = TransferModule(net, data.task, init_from=source, optimizer=adam)
    before = copied(module)
    trainer(tmp_path, max_epochs=1, limit_train_batches=2).fit(module, data)
    changed = moved(module, before)
    assert changed
    assert all("lora" in name or name.startswith("heads.") for name in changed)


def test_masked_tokens_balance_with_labels(tmp_path: Path) -> None:
    data = read(targets=["topic", "sentiment"], masked_tokens=0.15)
    for name in ("gradnorm", "upgrad", "uw"):
        module = build(data, balancer=parsed(overlay(name)))
        assert isinstance(module, MultiTaskModule)
        before = copied(module)
        trainer(tmp_path, max_epochs=1, limit_train_batches=2).fit(module, data)
        assert "heads.sentences_tokens.3.weight" in moved(module, before)

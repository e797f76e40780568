"""Language models as backbones."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from tl.backbones import LoraBackbone, TextBackbone
from tl.backbones.text import masked_mean
from tl.optim.param_groups import named_groups

SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}
ATTENTION_OUT = "attention.output.dense"
KINDS: dict[str, dict[str, Any]] = {
    "bert": SMALL,
    "roberta": SMALL,
    "electra": {**SMALL, "embedding_size": 8},
    "distilbert": {"vocab_size": 50, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
    "albert": {**SMALL, "embedding_size": 8},
    "modernbert": {**SMALL, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3},
}


def build(kind: str = "bert", **options: Any) -> TextBackbone:
    torch.manual_seed(0)
    return TextBackbone(config={"model_type": kind, **KINDS[kind]}, **options).eval()


def batch(length: int = 6, padding: int = 0) -> dict[str, Tensor]:
    ids = torch.randint(5, 50, (3, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, length + padding, dtype=torch.int64)
    mask[:, length:] = 0
    return {"input_ids": torch.nn.functional.pad(ids, (0, padding)), "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_padding_changes_nothing(kind: str, pooling: Any) -> None:
    net = build(kind, pooling=pooling)
    with torch.no_grad():
        plain, padded = net(batch()), net(batch(padding=7))
        tokens = net.maps(batch(padding=7))
    assert plain.shape == (3, net.num_features)
    torch.testing.assert_close(plain, padded, atol=1e-5, rtol=0)
    assert not tokens[:, 6:].any()
    assert torch.equal(net.pool(tokens), padded)


def test_the_mean_is_one_of_tokens_alone() -> None:
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]])
    assert masked_mean(tokens, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 4.0]]
    assert masked_mean(tokens, torch.tensor([[0, 0, 0]])).tolist() == [[0.0, 0.0]]
    net = build()
    inputs = batch(padding=2)
    by_hand = net.model(**inputs).last_hidden_state[:, :6].mean(1)
    torch.testing.assert_close(net(inputs), by_hand)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_in_one_stage_and_has_a_gradient(kind: str) -> None:
    net = build(kind)
    named_groups(net, torch.nn.Linear(1, 1))  # refuses what is in none or in two
    layers = 1 if kind == "albert" else 3  # which shares them
    assert list(net.stages()) == ["embeddings", *(f"layer{i}" for i in range(1, layers + 1))]
    net(batch()).square().sum().backward()
    unused = [name for name, p in net.named_parameters() if p.grad is None]
    assert not unused
    assert not any("pooler" in name for name, _ in net.named_parameters())


def test_layers_form_groups() -> None:
    stages = build(layers_per_stage=2).stages()
    assert list(stages) == ["embeddings", "layer1", "layer2"]
    assert [len(parts) for parts in stages.values()] == [1, 2, 1]


def test_a_folder_of_transformers_is_a_source(tmp_path: Path) -> None:
    config = transformers.BertConfig(**SMALL)
    torch.manual_seed(1)
    whole = transformers.BertForMaskedLM(config).train(mode=False)
    whole.save_pretrained(tmp_path)
    (tmp_path / "training_args.bin").write_bytes(b"not read")
    net = TextBackbone(str(tmp_path)).eval()
    wanted = whole.bert(**batch()).last_hidden_state
    torch.testing.assert_close(net.maps(batch()), wanted)
    assert net.pretrained
    assert net.provenance is not None
    assert net.provenance["path"] == "model.safetensors"
    assert (net.vocab_size, net.max_length) == (50, 20)
    assert not TextBackbone(str(tmp_path), weights=None).pretrained


def test_another_networks_folder_is_refused(tmp_path: Path) -> None:
    transformers.BertModel(transformers.BertConfig(**SMALL)).save_pretrained(tmp_path)
    transformers.BertConfig(**{**SMALL, "num_hidden_layers": 5}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"the weights lack encoder\.layer\.3"):
        TextBackbone(str(tmp_path))


def adapted_layers(net: LoraBackbone) -> set[str]:
    """Names of the layers with adapters, without that of their block."""
    found = (name for name, layer in net.named_modules() if hasattr(layer, "lora_A"))
    return {re.sub(r"^.*?\.\d+\.", "", name) for name in found}


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("bert", {f"attention.self.{p}" for p in ("query", "key", "value")} | {ATTENTION_OUT}),
        ("roberta", {f"attention.self.{p}" for p in ("query", "key", "value")} | {ATTENTION_OUT}),
        ("distilbert", {f"attention.{p}_lin" for p in "qkv"} | {"attention.out_lin"}),
        ("modernbert", {"attn.Wqkv", "attn.Wo"}),
    ],
)
def test_lora_adapts_attention(kind: str, wanted: set[str]) -> None:
    net = build(kind)
    layers = len(next(part for part in net.modules() if isinstance(part, nn.ModuleList)))
    adapted = LoraBackbone(net, rank=2, norms=False)
    assert adapted_layers(adapted) == wanted
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * layers * len(wanted)  # A and B each
    assert all("lora_" in name for name in trained)


def test_lora_adapts_all_linear_layers_on_demand() -> None:
    found = adapted_layers(LoraBackbone(build(), rank=2, layers="all"))
    assert {"intermediate.dense", "output.dense", ATTENTION_OUT} < found
    with pytest.raises(ValueError, match="`layers` must be attention or all, got 'some'"):
        LoraBackbone(build(), layers="some")  # type: ignore[arg-type]


def test_lora_starts_as_the_network_and_hands_on_tokens() -> None:
    net = build()
    with torch.no_grad():
        wanted = net(batch())
    adapted = LoraBackbone(net, rank=2)
    torch.testing.assert_close(adapted(batch()), wanted)
    assert adapted.maps(batch()).shape == (3, 6, 16)  # type: ignore[arg-type, union-attr]
    assert list(adapted.stages()) == list(net.stages())
    assert (adapted.vocab_size, adapted.max_length) == (net.vocab_size, net.max_length)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Give either `name` or `config`"),
        ({"name": "a", "config": {}}, "Give either `name` or `config`"),
        ({"config": {"model_type": "brt"}}, "needs a `model_type` of Transformers, got 'brt'"),
        ({"config": {"model_type": "bert", "hiden_size": 8}}, "Did you mean 'hidden_size'"),
        ({"config": {"model_type": "bert", **SMALL, "hidden_size": 15}}, "15"),
        ({"config": {"model_type": "bert"}, "pooling": "max"}, "`pooling` must be mean or first"),
        ({"config": {"model_type": "bert"}, "layers_per_stage": 0}, "`layers_per_stage` must be 1"),
        ({"name": "a", "weights": "b"}, "`weights` must be DEFAULT or null"),
    ],
)
def test_what_is_wrong_is_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as found:
        TextBackbone(**options)
    assert "\n" not in str(found.value)


def test_a_name_without_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ValueError, match="nobody/nothing is not in the Hugging Face cache"
    ) as found:
        TextBackbone("nobody/nothing")
    assert "\n" not in str(found.value)


def test_inputs_are_checked() -> None:
    net = build()
    with pytest.raises(ValueError, match="`input_ids` and `attention_mask`, got input_ids"):
        net({"input_ids": batch()["input_ids"]})
    with pytest.raises(ValueError, match="A text has 21 tokens, BertModel reads 20"):
        net(batch(21))
    assert build("roberta").max_length == 18  # its positions begin behind that of padding


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tl\[text\]'"):
        TextBackbone(config={"model_type": "bert"})

"""Hidden words: loss and scores by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from tl.backbones import TextBackbone
from tl.tasks import MaskedTokens, as_task

TASK = MaskedTokens("words", 7)


def example() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(3, 4, 7, generator=generator)
    target = torch.full((3, 4), -1)
    target[0, 1], target[2, 3], target[2, 0] = 5, 0, 6
    return output, target


def test_the_loss_is_the_mean_over_hidden_tokens() -> None:
    output, target = example()
    logs = output.log_softmax(-1)
    wanted = -(logs[0, 1, 5] + logs[2, 3, 0] + logs[2, 0, 6]) / 3
    torch.testing.assert_close(TASK.loss(output, target), wanted)
    assert int(TASK.present(target)) == 3


def test_nothing_hidden_has_a_loss_and_gradient_of_zero() -> None:
    output = example()[0].requires_grad_()
    loss = TASK.loss(output, torch.full((3, 4), -1))
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert float(loss) == 0
    assert output.grad is not None
    assert not output.grad.any()


def test_scores_count_hidden_tokens_alone() -> None:
    output, target = example()
    output[0, 1, 5] = 9.0  # one is right
    output[2, 3, 1] = output[2, 0, 1] = 9.0  # two are wrong
    metric = TASK.scores()["acc"]
    TASK.observe(metric, output, target)
    TASK.observe(metric, output, torch.full((3, 4), -1))
    torch.testing.assert_close(metric.compute(), torch.tensor(1 / 3))
    assert [int(each) for each in TASK.tally(output, target)] == [1]
    assert (TASK.score, TASK.higher_is_better) == ("loss", False)


def test_the_head_reads_tokens() -> None:
    head = TASK.head(8)
    assert head(torch.randn(2, 5, 8)).shape == (2, 5, 7)
    assert TASK.reads == "tokens"
    with pytest.raises(TypeError, match="takes their length"):
        TASK.head((8, 16))


def test_answers_are_tokens() -> None:
    output, _ = example()
    answer = TASK.answer(output)
    assert answer.shape == (3, 4)
    assert TASK.cells(answer, None)[0] == {"tokens": " ".join(map(str, answer[0].tolist()))}


def test_it_comes_back_from_its_record() -> None:
    assert as_task(TASK.record()) == TASK
    assert TASK.record()["kind"] == "masked_tokens"


def test_targets_are_checked() -> None:
    target = example()[1]
    assert torch.equal(TASK.check(target.int()), target)
    target[1, 2] = 7
    with pytest.raises(ValueError, match="token 2 of sample 1 of the batch is 7; expected 0 to 6"):
        TASK.check(target)
    for wrong in (target[0], target.float(), [1]):
        with pytest.raises(ValueError, match=r"expected token ids of shape \(N, L\)"):
            TASK.check(wrong)
    with pytest.raises(ValueError, match="vocabulary of at least 2"):
        MaskedTokens("words", 1)


def test_loss_and_gradients_are_those_of_transformers() -> None:
    torch.manual_seed(0)
    size: dict[str, Any] = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    size |= {"intermediate_size": 32, "max_position_embeddings": 16}
    still: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    net = TextBackbone(config={"model_type": "bert", **size, **still})
    task = MaskedTokens("words", 40)
    head: Any = task.head(16)
    config = transformers.BertConfig(**size, **still, tie_word_embeddings=False)
    plain: Any = transformers.BertForMaskedLM(config)
    plain.bert.load_state_dict(net.model.state_dict())
    last = plain.cls.predictions
    last.transform.dense.load_state_dict(head[0].state_dict())
    last.transform.LayerNorm.load_state_dict(head[2].state_dict())
    last.transform.LayerNorm.eps = head[2].eps
    last.decoder.load_state_dict(head[3].state_dict())
    ids = torch.randint(5, 40, (3, 7))
    mask = (torch.arange(7) < torch.tensor([[7], [5], [2]])).long()
    target = torch.where((torch.rand(3, 7) < 0.4) & (mask > 0), ids, -1)
    ours = task.loss(head(net.maps({"input_ids": ids, "attention_mask": mask})), target)
    labels = target.masked_fill(target < 0, -100)
    theirs = plain(input_ids=ids, attention_mask=mask, labels=labels).loss
    torch.testing.assert_close(ours, theirs)
    torch.autograd.backward([ours, theirs])
    wanted = dict(plain.bert.named_parameters())
    for name, parameter in net.model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad)

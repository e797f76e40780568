from __future__ import annotations

import pytest
import torch

from tl.cli.devices import check_devices


@pytest.mark.parametrize(
    ("accelerator", "strategy", "line"),
    [
        ("auto", "dpp", "there is no strategy 'dpp'. Did you mean 'ddp'?"),
        ("x", "auto", "there is no accelerator 'x'. There are auto, cpu,"),
        ("gpuu", "auto", "there is no accelerator 'gpuu'. Did you mean 'gpu'?"),
    ],
)
def test_names_that_lightning_does_not_know_are_refused(
    accelerator: str, strategy: str, line: str
) -> None:
    with pytest.raises(ValueError, match="there is no") as refused:
        check_devices(accelerator, strategy)
    assert str(refused.value).startswith(line)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
@pytest.mark.parametrize("accelerator", ["cuda", "gpu"])
def test_a_gpu_must_be_there(accelerator: str) -> None:
    if accelerator == "gpu" and torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(ValueError, match="torch finds no GPU here;"):
        check_devices(accelerator)


@pytest.mark.parametrize("given", [("cpu", "DDP"), ("auto", "ddp_find_unused_parameters_true")])
def test_known_names_and_objects_pass(given: tuple[str, str]) -> None:
    check_devices(*given)
    check_devices(object(), object())


def test_a_cpu_has_room_for_some_processes() -> None:
    check_devices("cpu", devices=2)
    check_devices("cpu", devices="8")
    check_devices("cuda" if torch.cuda.is_available() else "auto", devices=[0, 1])
    with pytest.raises(ValueError, match=r"devices=999 on a CPU .* give at most [0-9]+\."):
        check_devices("cpu", devices=999)

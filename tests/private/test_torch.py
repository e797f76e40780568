"""Private names of torch that optimisers, balancers and checkpoints rely on."""

from __future__ import annotations

import copy
import inspect
import pickletools
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import SWALR

from tests.private.names import find, has_inherited

NAMES = (
    *(("torch", name) for name in ("_foreach_add_", "_foreach_copy_", "_foreach_norm")),
    ("torch.nn.modules.batchnorm", "_BatchNorm"),
    ("torch.utils.tensorboard", "SummaryWriter._get_file_writer"),
    ("torch.cpu", "_is_avx512_bf16_supported"),
    ("torch.cpu", "_is_amx_tile_supported"),
    *(("torch.nn", f"Module.{name}") for name in ("_apply", "_load_from_state_dict")),
    ("torch.nn", "Module._save_to_state_dict"),
    *(
        ("torch.nn.modules.module", f"_global_{when}_hooks")
        for when in ("forward", "forward_pre", "backward", "backward_pre")
    ),
)


@pytest.mark.parametrize(("module", "path"), NAMES, ids=[path for _, path in NAMES])
def test_torch_has(module: str, path: str) -> None:
    find(module, path, "torch")


def test_what_subclasses_of_ours_use_is_there() -> None:
    from tl.private.torch import INHERITED  # noqa: PLC0415

    has_inherited(INHERITED, "torch")


def test_functions_of_a_step_are_torchs_own() -> None:
    from tl.private import torch as private  # noqa: PLC0415

    assert private.foreach_norm is torch._foreach_norm  # no call more


def test_what_a_module_computes_is_not_among_its_hooks_and_modes() -> None:
    from tl.private.torch import MODULE_STATE  # noqa: PLC0415

    net = nn.Sequential(nn.BatchNorm1d(2))
    net.register_forward_hook(lambda *_: None)
    assert {"training", "_forward_hooks"} <= MODULE_STATE
    assert vars(net).keys() - MODULE_STATE == {"_parameters", "_buffers", "_modules"}


def test_hooks_of_modules_are_seen_while_they_are_there() -> None:
    from tl.private.torch import hook_tables  # noqa: PLC0415

    net = nn.Sequential(nn.Linear(1, 1))
    tables = hook_tables(net.modules())
    assert not any(tables)
    registered = (
        net.register_forward_pre_hook(lambda *_: None),
        net[0].register_forward_hook(lambda *_: None),
        net[0].register_full_backward_hook(lambda *_: None),
        net[0].register_full_backward_pre_hook(lambda *_: None),
        nn.modules.module.register_module_forward_hook(lambda *_: None),
    )
    for number, hook in enumerate(registered):
        assert sum(map(bool, tables)) == len(registered) - number
        hook.remove()
    assert not any(tables)


def test_hooks_on_gradients_are_seen_while_they_are_there() -> None:
    from tl.private.torch import GRADIENT_HOOKS  # noqa: PLC0415

    weight = nn.Parameter(torch.ones(1))
    assert not getattr(weight, GRADIENT_HOOKS)
    hook = weight.register_hook(lambda gradient: gradient)  # type: ignore[no-untyped-call]
    assert getattr(weight, GRADIENT_HOOKS)
    hook.remove()
    assert not getattr(weight, GRADIENT_HOOKS)


def test_tables_hold_the_tensors_of_today() -> None:
    from tl.private.torch import tensor_tables  # noqa: PLC0415

    norm = nn.BatchNorm1d(1)
    tables = tensor_tables([norm])
    norm.running_mean = torch.ones(1)
    assert any(value is norm.running_mean for table in tables for value in table.values())


def test_every_batch_norm_is_one() -> None:
    from tl.private.torch import BatchNorm  # noqa: PLC0415

    assert all(issubclass(k, BatchNorm) for k in (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm))


def test_children_are_replaced_in_a_copy_that_shares_the_rest() -> None:
    from tl.private.torch import with_children  # noqa: PLC0415

    find(nn.Linear(1, 1), "_modules", "torch")
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    other = with_children(net, {"1": nn.Identity()})
    assert isinstance(net[1], nn.ReLU)
    assert isinstance(other.get_submodule("1"), nn.Identity)
    assert other.get_submodule("0") is net[0]


def test_empty_buffers_are_found() -> None:
    from tl.private.torch import empty_buffers  # noqa: PLC0415

    module = nn.Module()
    module.register_buffer("later", None)
    module.register_buffer("now", torch.zeros(1))
    find(module, "_buffers", "torch")
    assert empty_buffers(module) == ["later"]


def test_ddp_knows_what_it_is_to_leave_alone() -> None:
    from tl.private.torch import keep_out_of_ddp  # noqa: PLC0415

    source = inspect.getsource(nn.parallel.DistributedDataParallel)
    name = "_ddp_params_and_buffers_to_ignore"
    assert name in source, f"torch's DistributedDataParallel reads no {name}"
    module = nn.Linear(1, 1)
    for names in (["a"], ["b", "c"]):
        keep_out_of_ddp(module, names)
    assert getattr(module, name) == ["a", "b", "c"]


def test_a_fused_optimiser_says_that_it_unscales_gradients() -> None:
    from tl.private.torch import unscales_nothing  # noqa: PLC0415

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, fused=True)
    find(optimizer, "_step_supports_amp_scaling", "torch")
    unscales_nothing(optimizer)
    assert not optimizer._step_supports_amp_scaling


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_fused_optimiser_leaves_out_a_step_with_found_inf(kind: type[torch.optim.SGD]) -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = kind([parameter], lr=0.1, fused=True)
    parameter.grad = torch.ones(2)
    optimizer.step()  # the first makes its state
    before = copy.deepcopy(parameter.data)
    optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]
    optimizer.step()
    assert torch.equal(parameter, before), f"torch's {kind.__name__}.found_inf is gone"


def test_a_compiled_module_carries_its_mark() -> None:
    from tl.private.torch import COMPILED  # noqa: PLC0415

    compiled: Any = torch.compile(nn.Linear(1, 1))
    assert f"{COMPILED}.weight" in dict(compiled.named_parameters()), f"torch's {COMPILED} is gone"


def test_tensors_are_rebuilt_by_functions_of_the_known_name(tmp_path: Path) -> None:
    from tl.private.torch import REBUILDS  # noqa: PLC0415

    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    with ZipFile(tmp_path / "a.pt") as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        codes = list(pickletools.genops(BytesIO(archive.read(name)).read()))
    named = [
        str(argument).replace(" ", ".") for code, argument, _ in codes if code.name == "GLOBAL"
    ]
    assert any(n.startswith(REBUILDS) for n in named), f"torch's {REBUILDS} is gone: {named}"


def test_the_state_of_averaged_weights_schedule_holds_no_function() -> None:
    from tl.private.torch import drop_functions  # noqa: PLC0415

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = SWALR(optimizer, swa_lr=0.05, anneal_strategy="linear")
    find(schedule, "anneal_func", "torch")
    state = {**schedule.state_dict(), "anneal_func": schedule.anneal_func}
    held = dict(state)
    drop_functions({"lr_schedulers": [state], "callbacks": {"a": {"scheduler_state": held}}})
    assert "anneal_func" not in {*state, *held}
    again = SWALR(optimizer, swa_lr=0.05, anneal_strategy="linear")
    again.load_state_dict(state)
    assert again.anneal_func(0.5) == 0.5  # type: ignore[no-untyped-call]

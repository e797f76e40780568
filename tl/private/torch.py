"""Private names of torch, seen in 2.6.0 and 2.14.1; `tests/private` finds those that are gone.

Functions that a training step calls are torch's own under another name: no call is added.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

# What subclasses of ours override or call of their base: it must keep its name there.
INHERITED: dict[type, tuple[str, ...]] = {
    nn.Module: ("_apply", "_load_from_state_dict", "_save_to_state_dict"),
}

#: Base class of all batch norms.
BatchNorm = nn.modules.batchnorm._BatchNorm
#: What ``torch.compile`` puts into the name of a module.
COMPILED = "_orig_mod"
#: Attribute of a tensor that holds the hooks on its gradient; ``None`` before the first.
GRADIENT_HOOKS = "_backward_hooks"
#: Attributes of any module that do not say what it computes: its hooks, and its mode.
MODULE_STATE = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}
#: How functions begin that rebuild tensors from a pickle.
REBUILDS = "torch._utils._rebuild_"

foreach_add_ = torch._foreach_add_
foreach_copy_ = torch._foreach_copy_
foreach_norm = torch._foreach_norm


def hook_tables(modules: Iterable[nn.Module]) -> list[Mapping[int, Any]]:
    """Return the hooks around the passes of modules, and of all modules; they stay up to date."""
    kinds = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
    everywhere: Any = nn.modules.module
    return [
        *(getattr(everywhere, f"_global_{kind}") for kind in kinds),
        *(getattr(module, f"_{kind}") for module in modules for kind in kinds),
    ]


def tensor_tables(modules: Iterable[nn.Module]) -> list[dict[str, Any]]:
    """Return parameters and buffers of modules, or ``None``, by name; they stay up to date."""
    return [table for module in modules for table in (module._parameters, module._buffers)]


def empty_buffers(module: nn.Module) -> list[str]:
    """List the buffers that a module registered as ``None``; `named_buffers` omits them."""
    return [name for name, value in module._buffers.items() if value is None]


def keep_out_of_ddp(module: nn.Module, names: Iterable[str]) -> None:
    """Have ``DistributedDataParallel`` neither copy nor reduce these parameters and buffers."""
    known = getattr(module, "_ddp_params_and_buffers_to_ignore", [])
    module._ddp_params_and_buffers_to_ignore = [*known, *names]  # type: ignore[assignment]


def unscales_nothing(optimizer: Optimizer) -> None:
    """Take back that a fused optimiser's step unscales gradients; Lightning would not clip them."""
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]


def drop_functions(checkpoint: Mapping[str, Any]) -> None:
    """Take SWALR's function out of a checkpoint: torch 2.6 and 2.7 save it with the schedule.

    A file that names a function does not load with ``weights_only=True``; who resumes has it.

    Args:
        checkpoint: Lightning's; the states of its schedules and of its callbacks' change.
    """
    callbacks = checkpoint.get("callbacks", {}).values()
    kept = (state.get("scheduler_state") for state in callbacks if isinstance(state, Mapping))
    for state in (*checkpoint.get("lr_schedulers", ()), *kept):
        if isinstance(state, MutableMapping) and callable(state.get("anneal_func")):
            del state["anneal_func"]


def cpu_multiplies_bf16() -> bool:
    """Return whether the CPU has AVX-512 BF16 or AMX; False where torch does not tell."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in probes)


def file_writer(writer: SummaryWriter) -> FileWriter:
    """Return what writes a ``SummaryWriter``'s events; opened anew if it was closed."""
    found: FileWriter = writer._get_file_writer()  # type: ignore[no-untyped-call]
    return found


def with_children(module: nn.Module, children: Mapping[str, nn.Module]) -> nn.Module:
    """Return a module that shares everything with another but these children of its own.

    Args:
        module: The other; unchanged.
        children: Modules by the name of the child in whose place they stand.
    """
    shared = copy.copy(module)
    vars(shared)["_modules"] = {**module._modules, **children}
    return shared

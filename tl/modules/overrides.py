"""Hooks that a subclass replaces where it should extend them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CellType, CodeType, FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule

# besides those that begin with `on_`
_HOOKS = ("setup", "optimizer_step", "backward")
_LIBRARIES = ("lightning.", "torch.")


def check_overrides(module: SharedBackboneModule) -> None:
    """Refuse a subclass's hook that leaves out what the module does there.

    Steps, `forward`, losses and, without a strategy, `configure_optimizers` may be replaced.

    Args:
        module: The module.

    Raises:
        ValueError: If there is such a hook.
    """
    kind = type(module)
    hooks = {name: None for each in kind.__mro__ if _is_ours(each) for name in vars(each)}
    for name in hooks:
        if not (name.startswith("on_") or name in _HOOKS):
            continue
        if name == "backward" and getattr(module, "balancer", None) is None:
            continue
        if (found := _replaced(kind, name)) is not None:
            by, own = found
            raise ValueError(
                f"{by.__name__}.{name} replaces the module's own{_purpose(own)}; call "
                f"super().{name}({_arguments(own)}) in it."
            )
    found = _replaced(kind, "configure_optimizers")
    if found is not None and module.strategy is not None:
        raise ValueError(
            f"{found[0].__name__}.configure_optimizers replaces the module's own, and "
            f"{type(module.strategy).__name__} needs the module's own parameter groups; pass "
            "`optimizer=` and `scheduler=` to the constructor instead, or leave out `strategy`."
        )


def _replaced(kind: type, name: str) -> tuple[type, Any] | None:
    """Return the class whose method keeps from calling ours, and ours; ``None`` without one."""
    by: type | None = None
    for each in kind.__mro__:
        own = vars(each).get(name)
        if own is None:
            continue
        if _is_ours(each):
            return None if by is None else (by, own)
        if by is None and inspect.isfunction(own) and not _extends(own, kind, name):
            by = each
    return None


def _extends(method: FunctionType, kind: type, name: str) -> bool:
    """Tell whether a method may call ours, also through what it closes over or its helpers."""
    ours = {each.__name__ for each in kind.__mro__ if _is_ours(each)}
    # `loss.backward()` is the tensor's
    calls = {"super", *ours} if name == "backward" else {"super", name, *ours}
    seen: set[FunctionType] = set()
    left: list[Any] = [method]
    while left:
        function = left.pop()
        if not inspect.isfunction(function) or function in seen:
            continue
        seen.add(function)
        function = inspect.unwrap(function)
        if function.__module__.startswith("tl."):
            if function.__name__ == name:
                return True
            continue
        names = {*_names(function.__code__)}
        if not calls.isdisjoint(names):
            return True
        left += [cell.cell_contents for cell in function.__closure__ or () if _is_bound(cell)]
        left += [function.__globals__[each] for each in names if each in function.__globals__]
        # helpers: methods of the user's classes
        left += [
            vars(each)[helper]
            for each in kind.__mro__
            if not _is_ours(each) and not each.__module__.startswith(_LIBRARIES)
            for helper in names & vars(each).keys()
        ]
    return False


def _is_bound(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is not bound yet
        return False


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("tl.")


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names that code and the functions within it use."""
    yield from (*code.co_names, *code.co_freevars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _purpose(method: Any) -> str:  # noqa: ANN401 - any function
    """Return in brackets what a method is for, unless Python was started without docstrings."""
    said = (inspect.getdoc(method) or "").partition("\n")[0].rstrip(".").replace("``", "`")
    return f' ("{said}")' if said else ""


def _arguments(method: Any) -> str:  # noqa: ANN401 - any function
    _, *rest = inspect.signature(method).parameters.values()
    bare = [each.replace(annotation=each.empty, default=each.empty) for each in rest]
    return ", ".join(map(str, bare))

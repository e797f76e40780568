"""What importing torchmetrics brings with it, put off; seen in 1.9.0, tried by `tests/private`.

``import torchmetrics``, which Lightning does, imports scipy, matplotlib and transformers for
metrics that few runs use: a third of the time before a run's own work begins.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch  # noqa: F401 - before the stand-ins, which are for torchmetrics alone

#: Modules that torchmetrics imports at once and uses in some metrics and plots alone.
PUT_OFF = (
    *("matplotlib", "matplotlib.axes", "matplotlib.pyplot"),
    *("scipy", "scipy.signal", "transformers"),
)
# torchmetrics restores an old name in scipy.signal for it
_NEEDS_SCIPY_CHANGED = "gammatone"


class Deferred:
    """Something of a module that is found when it is used.

    While torchmetrics is imported, attributes and calls are deferred too.

    Args:
        find: Finds it.
    """

    importing = False

    def __init__(self, find: Callable[[], Any]) -> None:
        self.find = find

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        if Deferred.importing:
            if name.startswith("__"):
                raise AttributeError(name)
            return Deferred(lambda: getattr(self.find(), name))
        return getattr(self.find(), name)

    def __call__(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever it takes
        """Call it."""
        if Deferred.importing:
            return Deferred(lambda: self.find()(*given, **named))
        return self.find()(*given, **named)

    def __instancecheck__(self, instance: object) -> bool:
        """Return whether an object is one of the class that it stands for."""
        return isinstance(instance, self.find())


class DeferredModule(ModuleType):
    """Stands for a module until something of it is used."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        if name.startswith("__"):
            raise AttributeError(name)
        found = Deferred(lambda: _attribute(self.__name__, name))
        return found if Deferred.importing else found.find()


def import_lightly() -> None:
    """Import torchmetrics without scipy, matplotlib and transformers, which then come when used.

    The stand-ins are seen by torchmetrics alone: whoever imports one of these modules later gets
    the module itself. Where anything goes wrong, torchmetrics is imported as usual.
    """
    if "torchmetrics" in sys.modules:
        return
    names = [name for name in PUT_OFF if _can_be_put_off(name)]
    for name in names:
        made = DeferredModule(name)
        made.__spec__ = ModuleSpec(name, None, is_package=True)
        made.__path__ = []
        sys.modules[name] = made
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, made)
    Deferred.importing = True
    try:
        importlib.import_module("torchmetrics")
        failed = False
    except Exception:  # noqa: BLE001 - a later release may do more with them
        failed = True
    finally:
        Deferred.importing = False
        for name in names:
            sys.modules.pop(name, None)
    if failed:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchmetrics"]:
            del sys.modules[name]
        importlib.import_module("torchmetrics")


def _can_be_put_off(name: str) -> bool:
    library = name.split(".", maxsplit=1)[0]
    imported = sys.modules.get(library)
    if imported is not None and not isinstance(imported, DeferredModule):
        return False
    if library == "scipy" and importlib.util.find_spec(_NEEDS_SCIPY_CHANGED) is not None:
        return False
    return imported is not None or importlib.util.find_spec(library) is not None


def _attribute(module: str, name: str) -> Any:  # noqa: ANN401 - whatever the module has
    found = importlib.import_module(module)
    if not hasattr(found, name):  # a module in it that nobody has imported
        importlib.import_module(f"{module}.{name}")
    return getattr(found, name)

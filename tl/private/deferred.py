"""What importing torchmetrics and torchjd brings with it, put off until it is used.

Seen in torchmetrics 1.9.0 and torchjd 0.18.0, tried by `tests/private`. Lightning imports
torchmetrics, which imports scipy, matplotlib and transformers for metrics that few runs use.
torchjd imports the solvers of a few aggregators, and with them scipy. Together that is more than a
third of the time before a run's own work begins.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch  # noqa: F401 - before the stand-ins, which are for these libraries alone

#: By library, modules that it imports at once and uses in few of its parts.
PUT_OFF = {
    "torchmetrics": (
        *("matplotlib", "matplotlib.axes", "matplotlib.pyplot"),
        *("scipy", "scipy.signal", "transformers"),
    ),
    "torchjd": ("cvxpy", "qpsolvers", "scipy", "scipy.optimize"),
}
# torchmetrics restores an old name in scipy.signal for it
_NEEDS_SCIPY_CHANGED = "gammatone"


class Deferred:
    """Something of a module that is found when it is used.

    While such a library is imported, attributes and calls are deferred too.

    Args:
        find: Finds it.
        library: What it belongs to.
    """

    importing = False

    def __init__(self, find: Callable[[], Any], library: str = "") -> None:
        self.find = find
        self.library = library

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
        found = Deferred(lambda: _attribute(self.__name__, name), _library(self.__name__))
        return found if Deferred.importing else found.find()


def import_lightly() -> None:
    """Import torchmetrics and torchjd without what they rarely use, which then comes when used.

    The stand-ins are seen by these libraries alone: whoever imports one of the modules later gets
    the module itself. Where anything goes wrong, the library is imported as usual.
    """
    for library in PUT_OFF:
        _import(library)


def _import(library: str) -> None:
    if library in sys.modules:
        return
    names = [name for name in PUT_OFF[library] if _can_be_put_off(name)]
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
        importlib.import_module(library)
        failed = False
    except Exception:  # noqa: BLE001 - a later release may do more with them
        failed = True
    finally:
        Deferred.importing = False
        for name in names:
            sys.modules.pop(name, None)
    if failed:
        for name in [name for name in sys.modules if _library(name) == library]:
            del sys.modules[name]
        importlib.import_module(library)


def _can_be_put_off(name: str) -> bool:
    library = _library(name)
    imported = sys.modules.get(library)
    if imported is not None and not isinstance(imported, DeferredModule):
        return False
    if library == "scipy" and importlib.util.find_spec(_NEEDS_SCIPY_CHANGED) is not None:
        return False
    return imported is not None or importlib.util.find_spec(library) is not None


def _library(module: str) -> str:
    return module.partition(".")[0]


def _attribute(module: str, name: str) -> Any:  # noqa: ANN401 - whatever the module has
    found = importlib.import_module(module)
    if not hasattr(found, name):  # a module in it that nobody has imported
        importlib.import_module(f"{module}.{name}")
    _put_in_place(_library(module))
    return getattr(found, name)


_in_place: set[str] = set()


def _put_in_place(library: str) -> None:
    """Replace stand-ins of a library in torchjd, where ``except`` needs the class itself."""
    if library in _in_place:
        return
    _in_place.add(library)
    for module in [each for name, each in sys.modules.items() if _library(name) == "torchjd"]:
        for name, value in list(vars(module).items()):
            if type(value) is DeferredModule and _library(value.__name__) == library:
                setattr(module, name, importlib.import_module(value.__name__))
            elif type(value) is Deferred and value.library == library:
                setattr(module, name, value.find())

"""A hash of what networks compute, by which features are cached."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import Enum
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tl import __version__
from tl.private.torch import MODULE_STATE
from tl.questions.own_code import UnknownCodeError, code_of

_PLAIN = (type(None), bool, int, float, complex, str)


class NoHashError(ValueError):
    """A network holds something that cannot be written down."""


def weights_hash(*modules: nn.Module) -> str:
    """Return a SHA-256 of what networks compute.

    It covers the structure, weights and buffers, all attributes of each part, the sources of one's
    own classes and functions with the modules that these import, and the versions of libraries and
    of ``tl``. Hooks and modes do not count.

    Args:
        modules: The networks; two with equal values have the same hash in any process.

    Raises:
        NoHashError: If an attribute cannot be written down, or a source cannot be read.
    """
    writer = _Writer()
    written = [writer.write(module) for module in modules]
    try:
        code = code_of(writer.code)
    except UnknownCodeError as error:
        names = ", ".join(type(module).__name__ for module in modules)
        raise NoHashError(f"{names}: {error}") from None
    return _digest([__version__, *written, *(text for each in code.items() for text in each)])


class _Writer:
    """Writes values so that equal ones have the same text in every process.

    Attributes:
        code: Names of the modules whose classes and functions were met.
    """

    def __init__(self) -> None:
        self.code: set[str] = set()
        self._open: list[int] = []  # ids of the values around the present one
        self._written: dict[int, tuple[Any, str]] = {}  # with the value: its id stays its own
        self._place: list[str] = []

    def write(self, value: Any) -> str:  # noqa: ANN401 - any attribute
        if type(value) in _PLAIN:
            return f"{type(value).__name__} {value!r}"
        if type(value) is bytes:  # of arrays
            return f"bytes {hashlib.sha256(value).hexdigest()}"
        if isinstance(value, type):
            self.code |= {each.__module__ for each in value.__mro__}
            return f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, ModuleType):
            self.code.add(value.__name__)
            return f"module {value.__name__}"
        if id(value) in self._open:  # a part may know the whole
            return f"around {len(self._open) - self._open.index(id(value))}"
        if id(value) not in self._written:
            self._open.append(id(value))
            text = f"{self.write(type(value))} {_digest(self._parts(value))}"
            self._open.pop()
            self._written[id(value)] = (value, text)
        return self._written[id(value)][1]

    def _parts(self, value: Any) -> list[str]:  # noqa: ANN401, PLR0911 - one return per kind
        """Return what a value consists of."""
        if isinstance(value, nn.Module):
            state = {k: v for k, v in vars(value).items() if k not in MODULE_STATE}
            return self._named(type(value).__name__, state)
        if isinstance(value, Tensor):
            return [self._tensor(value)]
        if type(value) in (list, tuple):
            return self._all(value)
        if type(value) in (set, frozenset):
            return sorted(self._all(value))
        if type(value) is dict:
            pairs = ((self.write(k), self._at(str(k), v)) for k, v in value.items())
            return [text for pair in pairs for text in pair]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, CodeType):
            return [value.co_code.hex(), *self._all([value.co_names, value.co_consts])]
        if isinstance(value, Enum):
            return [value.name, self.write(value.value)]
        return self._pickled(value)

    def _function(self, value: FunctionType) -> list[str]:
        self.code.add(value.__module__)
        try:
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
        except ValueError:  # a name that is not bound yet
            raise self._unknown(value) from None
        inside = [value.__code__, value.__defaults__, value.__kwdefaults__, cells]
        return [f"{value.__module__}.{value.__qualname__}", *self._all(inside)]

    def _pickled(self, value: Any) -> list[str]:  # noqa: ANN401
        """Return what pickle would keep, which makes the value anew."""
        try:
            found = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - other people's code, which may raise anything
            raise self._unknown(value) from None
        if isinstance(found, str):  # the name of something that is there once
            return [f"{getattr(value, '__module__', '')}.{found}"]
        make, arguments, *others = found
        state, items, pairs = [*others, None, None, None][:3]
        parts = [self.write(make), *self._all(arguments)]
        if isinstance(state, dict) and all(isinstance(name, str) for name in state):
            parts += self._named(type(value).__name__, state)
        else:
            parts.append(self.write(state))
        return [*parts, *self._all(items or ()), *self._all(pairs or ())]

    def _named(self, owner: str, attributes: dict[str, Any]) -> list[str]:
        return [
            f"{name} {self._at(f'{owner}.{name}', value)}"
            for name, value in sorted(attributes.items())
        ]

    def _at(self, place: str, value: Any) -> str:  # noqa: ANN401
        self._place.append(place)
        text = self.write(value)
        self._place.pop()
        return text

    def _all(self, values: Iterable[Any]) -> list[str]:
        return [self.write(value) for value in values]

    def _tensor(self, value: Tensor) -> str:
        try:
            flat = value.detach().cpu().contiguous().reshape(-1)
            content = flat.view(torch.uint8).numpy().data if flat.numel() else b""
        except (RuntimeError, TypeError):  # sparse, quantised, or without values
            raise self._unknown(value) from None
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(content).hexdigest()}"

    def _unknown(self, value: Any) -> NoHashError:  # noqa: ANN401
        place = next((each for each in reversed(self._place) if "." in each), "a network")
        return NoHashError(
            f"{place} is or holds a {type(value).__name__}, whose value cannot be written down"
        )


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{len(text)} {text}".encode())
    return digest.hexdigest()

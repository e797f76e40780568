from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from jsonargparse import Namespace

from tl.cli.nulls import check_nulls


def namespace(**parts: Any) -> Namespace:
    return Namespace(**parts)  # type: ignore[no-untyped-call]


@dataclass
class Part:
    size: int = 4
    name: str | None = "a"


class Whole:
    def __init__(
        self,
        part: Part | None = None,
        rate: float = 0.1,
        late: int = None,  # type: ignore[assignment]  # noqa: RUF013 - as others write
        parts: Any = (),
    ) -> None: ...


def whole(**options: Any) -> Namespace:
    return namespace(class_path=f"{__name__}.Whole", init_args=namespace(**options))


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (whole(rate=None), "data.init_args.rate"),
        (whole(part=namespace(size=None)), "data.init_args.part.size"),
        (whole(parts=[whole(), whole(rate=None)]), "data.init_args.parts.1.init_args.rate"),
        (whole(parts={"x": whole(rate=None)}), "data.init_args.parts.x.init_args.rate"),
    ],
)
def test_null_is_refused_where_it_is_no_value(value: Namespace, key: str) -> None:
    with pytest.raises(ValueError, match=f"`{key}` cannot be null; its default is"):
        check_nulls(value, "data")


def test_null_is_accepted_where_it_is_a_value() -> None:
    check_nulls(whole(part=None, late=None, rate=0.2, parts=None, unknown=None), "data")
    check_nulls(whole(part=namespace(size=3, name=None)), "data")
    check_nulls(namespace(class_path="no.such.Class", init_args=namespace(x=None)), "data")
    check_nulls(None, "data")


def test_null_among_the_settings_of_the_framework() -> None:
    settings = namespace(root=None, val_size=None, augment=None, groups=None, pixel_range=None)
    check_nulls(namespace(class_path="tl.data.FolderDataModule", init_args=settings), "data")
    settings.size = None
    with pytest.raises(ValueError, match=r"`data\.init_args\.size` cannot be null"):
        check_nulls(namespace(class_path="tl.data.FolderDataModule", init_args=settings), "data")

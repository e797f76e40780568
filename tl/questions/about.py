"""What data an answer is about, for its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl.data.trained_on import sources_of
from tl.modules.checkpointed import description_of


def about_data(data: Any, split: str) -> dict[str, str]:  # noqa: ANN401 - any data module
    """Return name, kind and fingerprint of the data of one source, and the split in words.

    Args:
        data: A data module that was set up.
        split: The split, such as ``training samples``.
    """
    found = sources_of(description_of(data))
    if not found:
        return {}
    [(name, part), *_] = found.items()
    kept = {key: str(part[key]) for key in ("kind", "fingerprint") if part.get(key)}
    return {"name": name, **kept, "split": split}


def said_data(about: Mapping[str, str]) -> str:
    """Say what data an answer is about."""
    print_ = f" ({about['fingerprint']})" if "fingerprint" in about else ""
    return f"data: {about['split']} of {about['name']}{print_}{synthetic(about)}"


def synthetic(about: Mapping[str, str]) -> str:
    """Return a mark for data that were made up, to go behind a name."""
    return ", SYNTHETIC" if about.get("kind") == "generated" else ""

"""Find pretrained weights on this machine, or report which file to put where."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

#: Size and normalisation of the images that a network of Hugging Face was trained on.
PREPROCESSOR = "preprocessor_config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
#: What a trained model may consist of, without the pictures and curves beside it.
_MODEL = ["*.ckpt", "*.safetensors", "*.pt2", "*.json", "*.yaml", "*.md"]


def url_file(url: str, what: str) -> Path:
    """Return a file of torch's hub cache, downloading it if necessary.

    Args:
        url: Address of the file; its name ends in the first digits of its SHA-256.
        what: The network, for the error message.

    Raises:
        ValueError: If it is not cached and cannot be downloaded.
    """
    name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.exists():
        return path
    digits = re.search(r"-([0-9a-f]{8,})\.", name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(path), digits.group(1) if digits else None, progress=False
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"The weights of {what} are not on this machine and cannot be downloaded "
            f"({_reason(error)}). Get {url} on another machine and put it at {path}, or set "
            "`weights` to its path."
        ) from None
    return path


def hub_file(repository: str, filename: str) -> Path:
    """Return a file of a Hugging Face repository, from the cache or downloaded.

    Raises:
        ValueError: If it is not cached and cannot be downloaded.
    """
    hub = _hub()
    try:
        return Path(_cached_first(hub.hf_hub_download, repository, filename))
    except Exception as error:  # noqa: BLE001 - the hub's own, those of http, of the file system
        raise ValueError(
            f"{repository} is not in the Hugging Face cache and cannot be downloaded "
            f"({_reason(error)}). Expected {_place(hub, repository)}/{filename}; or put "
            f"{filename} from huggingface.co/{repository} anywhere, and set `weights` to its path "
            "or its folder."
        ) from None


def hub_folder(name: str, weights: bool) -> Path:
    """Return a folder with a network's ``config.json``, and with its weights if needed.

    Args:
        name: A folder, or a Hugging Face repository, from the cache or downloaded.
        weights: Whether the folder must hold weights.

    Raises:
        ValueError: If the folder or one of the files is missing.
    """
    folder = Path(name).expanduser()
    wanted = ["config.json", *(_WEIGHTS if weights else ())]
    files = [*wanted, PREPROCESSOR]
    if not folder.is_dir():
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            raise ValueError(
                f"{name} is neither a folder nor the name of a repository such as "
                "microsoft/resnet-18."
            )
        hub = _hub()
        try:
            folder = Path(_cached_first(hub.snapshot_download, name, allow_patterns=files))
        except Exception as error:  # noqa: BLE001 - as above
            raise ValueError(
                f"{name} is not in the Hugging Face cache and cannot be downloaded "
                f"({_reason(error)}). Expected {_place(hub, name)} with config.json"
                f"{' and model.safetensors' if weights else ''}; or copy them from "
                f"huggingface.co/{name} into any folder, and set `name` to that folder."
            ) from None
    here = [file for file in wanted if (folder / file).is_file()]
    if "config.json" not in here or (weights and len(here) == 1):
        raise ValueError(
            f"{folder}: expected config.json{' and model.safetensors' if weights else ''} there, "
            f"found {', '.join(sorted(p.name for p in folder.iterdir())[:5]) or 'nothing'}."
        )
    return folder


def hub_model(repository: str, revision: str | None = None) -> Path:
    """Return a copy of a Hugging Face repository of a trained model, cached or downloaded.

    Args:
        repository: As ``user/name``.
        revision: Branch, tag or commit; by default the newest.

    Raises:
        ValueError: If huggingface_hub is missing, or the repository is not cached and cannot be
            downloaded.
    """
    try:
        hub = _hub()
    except ImportError:
        raise ValueError(
            f"{repository}: models of the Hugging Face Hub need huggingface_hub; run `pip install "
            "huggingface_hub`."
        ) from None
    options = {} if revision is None else {"revision": revision}
    try:
        found = _cached_first(hub.snapshot_download, repository, allow_patterns=_MODEL, **options)
    except Exception as error:  # noqa: BLE001 - the hub's own, those of http, of the file system
        at = f"@{revision}" if revision else ""
        raise ValueError(
            f"{repository}{at} is not in the Hugging Face cache and cannot be downloaded "
            f"({_reason(error)}). Check the name and the connection; or copy its files from "
            f"huggingface.co/{repository} into a folder, and give that folder."
        ) from None
    return Path(found)


def _cached_first(fetch: Callable[..., str], *args: str, **options: str | list[str]) -> str:
    """Return what is cached, without checking the network for a newer version."""
    try:
        return fetch(*args, **options, local_files_only=True)
    except Exception:  # noqa: BLE001 - whatever it is, the hub is asked next, and its error raised
        logger = logging.getLogger("huggingface_hub")
        level = logger.level
        logger.setLevel(logging.ERROR)  # hides its retries; the caller reports the outcome
        try:
            return fetch(*args, **options)
        finally:
            logger.setLevel(level)


def _hub() -> Any:  # noqa: ANN401 - a module
    import huggingface_hub  # noqa: PLC0415 - an extra

    return huggingface_hub


def _place(hub: Any, repository: str) -> str:  # noqa: ANN401 - a module
    folder = f"models--{repository.replace('/', '--')}"
    return os.path.join(hub.constants.HF_HUB_CACHE, folder, "snapshots", "<revision>")  # noqa: PTH118


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(getattr(error, "reason", "") or error).split())
    return text[:120] or type(error).__name__

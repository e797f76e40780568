"""Small archives in the format of CIFAR-10 and CIFAR-100, and a server for them."""

from __future__ import annotations

import hashlib
import http.server
import pickle
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from tl.data.cifar import classes as official


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def make_archive(folder: Path, kind: type[CIFAR10], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive in the official format; torchvision is told its checksums."""
    fine = kind is CIFAR100
    base = folder / "made" / kind.base_folder
    base.mkdir(parents=True)
    classes = official.CIFAR100 if fine else official.CIFAR10
    rng = np.random.default_rng(0)
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for attribute, each in (("train_list", 2), ("test_list", 1)):
        for name, _ in getattr(kind, attribute):
            labels = np.repeat(np.arange(len(classes)), each).tolist()
            entry: dict[str, Any] = {
                "data": rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8),
                "fine_labels" if fine else "labels": labels,
            }
            (base / name).write_bytes(pickle.dumps(entry))
            lists[attribute].append([name, md5(base / name)])
    meta = base / kind.meta["filename"]
    meta.write_bytes(pickle.dumps({kind.meta["key"]: list(classes)}))
    archive = folder / str(kind.filename)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(base, kind.base_folder)
    for attribute, value in lists.items():
        monkeypatch.setattr(kind, attribute, value)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(meta)})
    monkeypatch.setattr(kind, "tgz_md5", md5(archive))
    return archive


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; gives its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, directory=str(folder), **kwargs)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()

from __future__ import annotations

import os
import signal
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning_utilities.core.inheritance import get_all_subclasses
from torch.utils.data import BatchSampler, DataLoader

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # tiny tensors: threads cost more than they bring, and results must not depend on their number
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    # a shell starts background commands with Ctrl-C ignored, and their children inherit that
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _loaders_as_torch_has_them() -> Iterator[None]:
    # Lightning replaces methods of DataLoader while it asks for loaders, and where the answer is an
    # error leaves them replaced, for every test that follows in the process
    yield
    for base in (DataLoader, BatchSampler):
        for kind in {base, *get_all_subclasses(base)}:
            for method in ("__setattr__", "__delattr__", "__init__"):
                if f"__old{method}" in vars(kind):
                    setattr(kind, method, vars(kind)[f"__old{method}"])
                    delattr(kind, f"__old{method}")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that a run logs of what it resumes from."""
    said: list[str] = []
    for module in ("runs.choosing", "runs.resume", "runs.same_run"):
        monkeypatch.setattr(f"tl.{module}.rank_zero_info", said.append)
    return said


@pytest.fixture
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Real CIFAR image folders: $TL_TEST_IMAGES, or archives in a folder beside the repository."""
    if given := os.environ.get("TL_TEST_IMAGES"):
        yield Path(given)
        return
    archives = ROOT.parent / "shared" / "data"
    if not (archives / "cifar100-images.tar.xz").exists():
        pytest.skip("no real images: set TL_TEST_IMAGES to a folder with cifar10/ and cifar100/")
    folder = tmp_path_factory.mktemp("images")
    for name in ("cifar10", "cifar100"):
        with tarfile.open(archives / f"{name}-images.tar.xz") as tar:
            # a part is enough, and quick: the first images of each class
            kept: Counter[str] = Counter()
            for member in tar:
                parent = str(Path(member.name).parent)
                kept[parent] += member.name.endswith(".jpg")
                if kept[parent] <= (50 if name == "cifar10" else 8):
                    tar.extract(member, folder, filter="data")
    yield folder

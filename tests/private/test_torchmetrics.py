"""What torchmetrics imports at once comes when it is used, and is then the library itself."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tl.private.torchmetrics import PUT_OFF, Deferred, DeferredModule, import_lightly

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from tl.private.torchmetrics import import_lightly
import_lightly()
import torch, torchmetrics
from torchmetrics.classification import MulticlassAccuracy
early = {"matplotlib", "scipy", "transformers"} & set(sys.modules)
assert not early, f"torchmetrics imports {early} in another way than before"
metric = MulticlassAccuracy(3)
metric.update(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
figure, axes = metric.plot()
import matplotlib
from matplotlib.figure import Figure
assert isinstance(figure, Figure) and matplotlib.__file__
import scipy.signal
assert scipy.signal.windows.hamming(3).shape == (3,)
if "bert" in sys.argv[1]:
    from torchmetrics.functional.text import bert
    import transformers
    assert bert.AutoModel.from_pretrained == transformers.AutoModel.from_pretrained
"""


def test_torchmetrics_works_as_usual_and_brings_nothing_that_is_not_used() -> None:
    if importlib.util.find_spec("scipy") is None:
        pytest.skip("scipy is an extra")
    bert = "bert" if importlib.util.find_spec("transformers") else "none"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, bert],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_nothing_is_put_off_once_torchmetrics_is_imported() -> None:
    import torchmetrics  # noqa: F401, PLC0415

    before = {name: sys.modules.get(name) for name in PUT_OFF}
    import_lightly()
    assert {name: sys.modules.get(name) for name in PUT_OFF} == before


def test_what_is_deferred_is_found_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    module = DeferredModule("json.decoder")
    with monkeypatch.context() as importing:
        importing.setattr(Deferred, "importing", True)
        kind = module.JSONDecoder
        text = kind().decode('"a"').upper()
    assert isinstance(text, Deferred)
    assert text.find() == "A"
    assert kind().decode("[1]") == [1]
    assert isinstance(kind(), kind)  # as a class is asked
    with pytest.raises(ModuleNotFoundError):
        _ = module.nothing_of_that_name

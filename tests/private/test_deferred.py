"""What libraries import at once comes when it is used, and is then the library itself."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tl.private.deferred import PUT_OFF, Deferred, DeferredModule, import_lightly

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from tl.private.deferred import import_lightly
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


SOLVERS = """
import sys
from tl.private.deferred import import_lightly
import_lightly()
import torch
from torchjd.aggregation import CAGrad, FairGrad, NashMTL, UPGrad, _nash_mtl
early = {"cvxpy", "qpsolvers", "scipy"} & set(sys.modules)
assert not early, f"torchjd imports {early} in another way than before"
rows = torch.tensor([[1.0, 2.0], [2.0, -1.0]])
for method in (UPGrad(), FairGrad(alpha=1.0), CAGrad(c=0.5), NashMTL(n_tasks=2)):
    found = method(rows)
    assert bool(((rows @ found) > 0).all()), (method, found)
import cvxpy
assert issubclass(_nash_mtl.SolverError, Exception) and _nash_mtl.cp is cvxpy
"""


def test_torchjd_works_as_usual_and_imports_solvers_when_they_are_used() -> None:
    if not all(map(importlib.util.find_spec, ("cvxpy", "qpsolvers", "ecos"))):
        pytest.skip("solvers are an extra")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SOLVERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_nothing_is_put_off_once_the_libraries_are_imported() -> None:
    import torchjd  # noqa: F401, PLC0415
    import torchmetrics  # noqa: F401, PLC0415

    names = [name for names in PUT_OFF.values() for name in names]
    before = {name: sys.modules.get(name) for name in names}
    import_lightly()
    assert {name: sys.modules.get(name) for name in names} == before


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

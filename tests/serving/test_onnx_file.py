from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import tl
from tests.serving.test_exporting import saved
from tests.small import Tiny, module, tiny_data
from tl.serving.exporting import export


def test_onnx_answers_alike_and_holds_the_class_names(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    data = tiny_data()
    path = saved(tmp_path, module(data), data)
    done = export(path, tmp_path / "out", backbone=Tiny(), onnx=True)
    assert not done.problems
    file = done.folder / "model.onnx"
    metadata = {prop.key: json.loads(prop.value) for prop in onnx.load(file).metadata_props}
    [size, *_] = onnx.load(file).graph.input[0].type.tensor_type.shape.dim
    assert size.dim_param == "batch"
    live = tl.load(path, backbone=Tiny())
    [name] = live.tasks
    assert metadata["class_names"] == {name: live.class_names}
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    pixels = data.splits["val"].images[:4].numpy()  # type: ignore[attr-defined]
    assert [each.name for each in session.get_outputs()] == [name]
    [answers] = session.run(None, {"pixels": pixels})
    for row, wanted in zip(answers, live.predict(pixels), strict=True):
        assert wanted.value.tolist() == pytest.approx(row.tolist(), abs=1e-5)


def test_a_missing_package_is_named_and_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny_data()
    path = saved(tmp_path, module(data), data)
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = export(path, tmp_path / "out", backbone=Tiny(), onnx=True)
    assert done.problems == ("model.onnx was not written: it needs onnx: pip install 'tl[onnx]'",)
    assert "model.pt2" in done.files

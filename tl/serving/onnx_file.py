"""A graph as an ONNX file, with its classes in the metadata."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tl.serving.program import ExportError, reason
from tl.serving.quiet import quiet


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file.

    Args:
        content: The file.
        outputs: Names of its outputs.
    """

    content: bytes
    outputs: tuple[str, ...]

    def answers(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what onnxruntime answers, by the outputs' names."""
        import onnxruntime  # noqa: PLC0415 - an extra; `onnx_model` found it

        session = onnxruntime.InferenceSession(self.content, providers=["CPUExecutionProvider"])
        wanted = {each.name for each in session.get_inputs()}
        found = session.run(None, {k: v.numpy() for k, v in inputs.items() if k in wanted})
        return {n: torch.as_tensor(v) for n, v in zip(self.outputs, found, strict=True)}


def onnx_model(
    program: torch.export.ExportedProgram,
    inputs: Sequence[str],
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> OnnxModel:
    """Write a graph as ONNX.

    Args:
        program: The graph.
        inputs: Names of its inputs.
        outputs: Names of its outputs.
        metadata: Stored in the file as ``metadata_props``.

    Raises:
        ExportError: If a package is missing, or an operation has no form in ONNX.
    """
    try:
        import onnx  # noqa: PLC0415 - an extra
        import onnxruntime  # noqa: F401, PLC0415 - compares the answers
        import onnxscript  # noqa: F401, PLC0415 - torch needs it
    except ModuleNotFoundError as error:
        raise ExportError(f"it needs {error.name}: pip install 'tl[onnx]'") from None
    try:
        with quiet("torch.onnx", "onnxscript", "onnx_ir"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[*inputs],
                output_names=[*outputs],
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise ExportError(f"torch.onnx cannot take it: {reason(error)}") from error
    model = made.model_proto
    _name_sizes(model.graph)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    return OnnxModel(model.SerializeToString(), tuple(node.name for node in model.graph.output))


def _name_sizes(graph: Any) -> None:  # noqa: ANN401 - onnx is an extra
    """Call the free sizes of a graph ``batch`` and, of texts, ``length``."""
    names = {
        size.dim_param: name
        for node in graph.input
        for name, size in zip(("batch", "length"), node.type.tensor_type.shape.dim, strict=False)
        if size.dim_param
    }
    for node in (*graph.input, *graph.output, *graph.value_info):
        for size in node.type.tensor_type.shape.dim:
            if size.dim_param in names:
                size.dim_param = names[size.dim_param]

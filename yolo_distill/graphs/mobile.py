"""What ONNX Runtime's GPU and NPU delegates on phones take: rewriting a graph for them, and asking whether it fits."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort
from onnxruntime.tools.mobile_helpers.usability_checker import check_coreml_partitions, check_nnapi_partitions
from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo

#: The providers that a graph has to suit as a whole, and who knows their operators.
PROVIDERS = {
    "NNAPI": check_nnapi_partitions,
    "CoreML NeuralNetwork": partial(check_coreml_partitions, config_filename="coreml_supported_neuralnetwork_ops.md"),
    "CoreML MLProgram": partial(check_coreml_partitions, config_filename="coreml_supported_mlprogram_ops.md"),
}
_LEVEL = "ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL"  # the converter has no argument for it


def suit_delegates(model: onnx.ModelProto) -> None:
    """Rewrite a graph, in place and with the same answers, so that NNAPI and CoreML take all of it.

    A resize without a region of interest counts as one of unknown shape: it gets a region, which nearest-neighbour
    resizing does not look at. NNAPI splits into equal parts only: other splits, those of attention, become slices.
    """
    graph = model.graph
    constants = {one.name: one for one in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Resize" and len(node.input) > 1 and not node.input[1]:
            region = "resize_region"
            if region not in constants:
                whole = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
                graph.initializer.append(numpy_helper.from_array(whole, region))
                constants[region] = graph.initializer[-1]
            node.input[1] = region
        if node.op_type == "Split" and len(node.input) > 1 and node.input[1] in constants:
            sizes = numpy_helper.to_array(constants[node.input[1]])
            if len(set(sizes.tolist())) > 1:
                nodes.extend(_slices(graph, node, sizes.tolist()))
                continue
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    left = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)


def _slices(graph: onnx.GraphProto, node: onnx.NodeProto, sizes: list[int]) -> list[onnx.NodeProto]:
    """Return a slice for each output of a split."""
    axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
    slices, start = [], 0
    for number, (output, size) in enumerate(zip(node.output, sizes, strict=True)):
        bounds = []
        for what, value in (("start", start), ("end", start + size), ("axis", axis)):
            name = f"{node.name}/{what}.{number}"
            graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
            bounds.append(name)
        slices.append(helper.make_node("Slice", [node.input[0], *bounds], [output], name=f"{node.name}/part.{number}"))
        start += size
    return slices


def check_suitability(file: Path) -> dict[str, dict[str, Any]]:
    """Ask ONNX Runtime's mobile usability check about a static file.

    Returns:
        provider to `partitions` (parts of the graph that run there; between two of them the CPU takes over, which
        costs), the `nodes` in them `of` all nodes, and `suits`: whether the check recommends the provider.
    """
    model = ModelProtoWithShapeInfo(file).model_with_shape_info
    found = {}
    for provider, check in PROVIDERS.items():
        info = check(model, require_fixed_input_sizes=True)
        found[provider] = {
            "partitions": info.num_partitions,
            "nodes": info.num_supported_nodes,
            "of": info.num_nodes,
            "suits": info.suitability() == info.TryWithEP.YES,
        }
    return found


def write_ort(file: Path, folder: Path, *, fused: bool) -> tuple[Path, Path]:
    """Write ONNX Runtime's own format, and the operators that a runtime built for this model alone needs.

    Args:
        file: the ONNX file.
        folder: where to; not the file's own.
        fused: whether operators are fused for ARM CPUs now, as a small runtime cannot do it when it opens the file.
            What is fused is out of reach for GPU and NPU delegates.

    Returns:
        the `.ort` file, and the list of operators for `--include_ops_by_config`.
    """
    before = os.environ.get(_LEVEL)
    os.environ[_LEVEL] = "all" if fused else "basic"
    try:
        logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)
        with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / file.name
            shutil.copyfile(file, source)
            convert_onnx_models_to_ort(
                source, output_dir=folder, optimization_styles=[OptimizationStyle.Fixed], target_platform="arm"
            )
    finally:
        if before is None:
            del os.environ[_LEVEL]
        else:
            os.environ[_LEVEL] = before
    operators = next(folder.glob("*.config"))
    lines = operators.read_text(encoding="utf-8").splitlines(keepends=True)
    # The comments at the top hold the path of the file that was converted.
    operators.write_text("".join(line for line in lines if not line.startswith("#")), encoding="utf-8")
    return next(folder.glob("*.ort")), operators

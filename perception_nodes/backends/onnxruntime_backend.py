"""Detectors in ONNX files, through onnxruntime."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from perception_nodes.backends.heads import HEADS
from perception_nodes.backends.preprocess import network_input
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.types import Detections


class OnnxDetector:
    """A detector whose boxes one of :data:`~perception_nodes.backends.heads.HEADS` reads."""

    def __init__(self, session: onnxruntime.InferenceSession, entry: ModelEntry) -> None:
        if entry.head not in HEADS:
            raise ValueError(
                f"model '{entry.name}' names head '{entry.head}'; "
                f'choose one of {", ".join(HEADS)}')
        self.class_names = entry.class_names
        self._session = session
        self._input = entry.input
        self._read_head = HEADS[entry.head]
        self._names = [output.name for output in session.get_outputs()]
        self._column_ids = _column_ids(entry)

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Find objects in each (H, W, 3) uint8 RGB frame; see ``DetectorModel``."""
        # one by one: exported detectors often have a fixed batch of one
        return [self._predict_one(frame) for frame in frames]

    def _predict_one(self, rgb: npt.NDArray[np.uint8]) -> Detections:
        pixels, resize = network_input(rgb, self._input)
        feed = {self._session.get_inputs()[0].name: pixels[None]}
        values = [value[0] for value in self._session.run(None, feed)]
        outputs = dict(zip(self._names, values, strict=True))
        size = (self._input.width, self._input.height)
        found = self._read_head(outputs, size, self._column_ids)
        return Detections(resize.undo(found.boxes_xyxy), found.scores, found.class_ids)


def load_detector(entry: ModelEntry, device: str) -> OnnxDetector:
    """Load a detection model; see :func:`perception_nodes.backends.registry.load_model`."""
    return OnnxDetector(_open(entry, device), entry)


def _open(entry: ModelEntry, device: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # one thread: a robot runs many nodes, and two threads on a busy machine are slower than one
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    path = entry.verified_path()
    providers = _providers(device)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has no common base for its errors
        raise ValueError(
            f"model '{entry.name}': onnxruntime cannot load {path}: {error}") from error
    # it falls back to the CPU without a word
    taken, asked = session.get_providers()[0], _name(providers[0])
    if taken != asked:
        raise ValueError(
            f"model '{entry.name}' was asked onto {asked} but onnxruntime took {taken}; "
            "check the GPU's driver and libraries, or set device to 'cpu'")
    return session


def _providers(device: str) -> list[Any]:
    available = onnxruntime.get_available_providers()
    has_cuda = 'CUDAExecutionProvider' in available
    if device == 'cpu' or (device == 'auto' and not has_cuda):
        return ['CPUExecutionProvider']
    if device == 'auto':
        device = 'cuda:0'
    kind, _, index = device.partition(':')
    if kind != 'cuda' or not (index or '0').isdigit():
        raise ValueError(f"device is '{device}'; it must be 'auto', 'cpu' or 'cuda:N'")
    if not has_cuda:
        raise ValueError(
            f"device is '{device}', but this onnxruntime has no CUDA; install onnxruntime-gpu "
            "or set device to 'cpu'")
    return [('CUDAExecutionProvider', {'device_id': int(index or 0)}), 'CPUExecutionProvider']


def _name(provider: Any) -> str:
    return provider if isinstance(provider, str) else str(provider[0])


def _column_ids(entry: ModelEntry) -> npt.NDArray[np.int64]:
    """Return the class id of each score column; columns are ids counted from the smallest one."""
    first, last = min(entry.class_names), max(entry.class_names)
    ids = np.arange(first, last + 1)
    known = np.isin(ids, np.fromiter(entry.class_names, np.int64))
    return np.where(known, ids, -1)

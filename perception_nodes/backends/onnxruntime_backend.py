"""Networks in ONNX files, through onnxruntime, and the detectors among them."""

from collections.abc import Sequence
import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from perception_nodes.backends.heads import HEADS, is_end_to_end, ScoreColumns
from perception_nodes.backends.preprocess import network_input, Resize
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.types import Detections

log = logging.getLogger(__name__)

_INPUT_DTYPES = {
    'tensor(float)': np.float32, 'tensor(float16)': np.float16, 'tensor(uint8)': np.uint8}


class OnnxNetwork:
    """
    A network that takes one image.

    :raises ValueError: If its input is not the manifest's.
    """

    def __init__(self, session: onnxruntime.InferenceSession, entry: ModelEntry) -> None:
        self.size = (entry.input.width, entry.input.height)
        self._session = session
        self._input = entry.input
        self._input_name, self._dtype = _image_input(session, entry)
        self._output_names = [output.name for output in session.get_outputs()]

    def run(self, rgb: npt.NDArray[np.uint8]) -> tuple[dict[str, npt.NDArray[Any]], Resize]:
        """Return the outputs by name, without batch axis, and the resize of the image."""
        pixels, resize = network_input(rgb, self._input)
        feed = {self._input_name: pixels[None].astype(self._dtype, copy=False)}
        values = self._session.run(None, feed)
        return {name: np.atleast_1d(value)[0]
                for name, value in zip(self._output_names, values, strict=True)}, resize

    def black(self) -> npt.NDArray[np.uint8]:
        """Return a picture to try it with."""
        return np.zeros((*self.size[::-1], 3), np.uint8)


class OnnxDetector:
    """
    A detector whose boxes one of :data:`~perception_nodes.backends.heads.HEADS` reads.

    The network runs once on construction, so that one which is not what the manifest says is
    refused then.

    :raises ValueError: If its input, its outputs or its classes are not the manifest's.
    """

    def __init__(self, session: onnxruntime.InferenceSession, entry: ModelEntry) -> None:
        if entry.head not in HEADS:
            raise ValueError(
                f"model '{entry.name}' names head '{entry.head}'; "
                f'choose one of {", ".join(HEADS)}')
        self.class_names = entry.class_names
        self._read = HEADS[entry.head].read
        self._columns = ScoreColumns(entry.class_names)
        try:
            self._network = OnnxNetwork(session, entry)
            outputs, _ = self._network.run(self._network.black())
            self._boxes(outputs)
        except ValueError as error:
            raise ValueError(f"model '{entry.name}': {error}") from error
        self.needs_suppression = HEADS[entry.head].needs_suppression and not (
            entry.head == 'yolo'
            and is_end_to_end(
                next(iter(outputs.values())).shape, self._columns, self._network.size))

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Find objects in each (H, W, 3) uint8 RGB frame; see ``DetectorModel``."""
        # one by one: exported detectors often have a fixed batch of one
        return [self._predict_one(frame) for frame in frames]

    def _predict_one(self, rgb: npt.NDArray[np.uint8]) -> Detections:
        outputs, resize = self._network.run(rgb)
        found = self._boxes(outputs)
        return Detections(resize.undo(found.boxes_xyxy), found.scores, found.class_ids)

    def _boxes(self, outputs: dict[str, npt.NDArray[Any]]) -> Detections:
        floats = {name: value.astype(np.float32, copy=False) for name, value in outputs.items()}
        return self._read(floats, self._network.size, self._columns)


def load_detector(entry: ModelEntry, device: str, half_precision: bool) -> OnnxDetector:
    """Load a detection model; see :func:`perception_nodes.backends.registry.load_model`."""
    return OnnxDetector(open_session(entry, device, half_precision), entry)


def _image_input(session: onnxruntime.InferenceSession, entry: ModelEntry) -> tuple[str, Any]:
    """Return the name and dtype of the input, which must be one image of the manifest's size."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        found = ', '.join(f'{i.name} {i.shape}' for i in inputs)
        raise ValueError(
            f'the network asks for {found}; expected one image, (1, 3, height, width) or (1, '
            'height, width, 3): export it without its pre- and post-processing')
    image = entry.input
    wanted = (3, image.height, image.width)
    if image.layout == 'NHWC':
        wanted = (image.height, image.width, 3)
    # sizes that are free have names
    if any(isinstance(n, int) and n != want
           for n, want in zip(inputs[0].shape[1:], wanted, strict=True)):
        raise ValueError(
            f'the network takes images of shape {tuple(inputs[0].shape[1:])} only, not {wanted} '
            f'({image.layout}); leave input_size empty, or correct the manifest')
    if inputs[0].type not in _INPUT_DTYPES:
        raise ValueError(
            f'the network takes {inputs[0].type}; supported are {", ".join(_INPUT_DTYPES)}')
    return inputs[0].name, _INPUT_DTYPES[inputs[0].type]


def open_session(
    entry: ModelEntry, device: str, half_precision: bool
) -> onnxruntime.InferenceSession:
    """
    Load a network of any task; see :func:`perception_nodes.backends.registry.load_model`.

    :raises ValueError: If onnxruntime cannot load the file, or not onto this device.
    """
    if half_precision:
        raise ValueError(
            f"model '{entry.name}': half_precision is true, but an ONNX file has the precision it "
            'was exported with; set it to false, or export the network in 16 bits')
    options = onnxruntime.SessionOptions()
    # one thread: a robot runs many nodes, and two threads on a busy machine are slower than one
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = _providers(device)
    path = entry.verified_path()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has no common base for its errors
        raise ValueError(
            f"model '{entry.name}': onnxruntime cannot load {path}: {error}") from error
    # it falls back to the CPU without a word
    taken, asked = session.get_providers()[0], _name(providers[0])
    if taken != asked and device != 'auto':
        raise ValueError(
            f"model '{entry.name}' was asked onto {asked} but onnxruntime took {taken}; "
            "check the GPU's driver and libraries, or set device to 'cpu'")
    log.info("model '%s' runs on %s", entry.name, taken)
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

"""Networks in ONNX files, by the runtime that suits the device, and the detectors among them."""

from collections.abc import Sequence
import logging
from typing import Any, Protocol, TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.heads import (
    check_numbers,
    HEADS,
    is_end_to_end,
    ScoreColumns,
)
from perception_nodes.backends.preprocess import network_input, Resize
from perception_nodes.backends.runtime_choice import choose_runtime, CUDA, TENSORRT
from perception_nodes.core.manifest import model_folder, ModelEntry
from perception_nodes.core.types import Detections

if TYPE_CHECKING:  # a machine whose GPU runs everything in torch does without
    import onnxruntime

log = logging.getLogger(__name__)

_INPUT_DTYPES = {
    'tensor(float)': np.float32, 'tensor(float16)': np.float16, 'tensor(uint8)': np.uint8}
_PROVIDERS = {'cpu': 'CPUExecutionProvider', 'cuda': CUDA, 'tensorrt': TENSORRT}

Answer = tuple[dict[str, npt.NDArray[Any]], Resize]


class ImageNetwork(Protocol):
    """A network that takes one image, whatever runs it."""

    size: tuple[int, int]  # width and height of its input

    def run(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Answer]:
        """Return for each frame the outputs by name, without batch axis, and its resize."""
        ...


class OnnxNetwork:
    """
    A network in onnxruntime, or in what looks like it.

    :raises ValueError: If its input is not the manifest's.
    """

    def __init__(self, session: Any, entry: ModelEntry) -> None:
        self.size = (entry.input.width, entry.input.height)
        self._session = session
        self._input = entry.input
        self._input_name, self._dtype = _image_input(session, entry)
        self._output_names = [output.name for output in session.get_outputs()]

    def run(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Answer]:
        """Return the outputs for each frame; see :class:`ImageNetwork`."""
        # one by one: exported networks mostly have a fixed batch of one
        return [self._run_one(frame) for frame in frames]

    def _run_one(self, rgb: npt.NDArray[np.uint8]) -> Answer:
        pixels, resize = network_input(rgb, self._input)
        feed = {self._input_name: pixels[None].astype(self._dtype, copy=False)}
        values = self._session.run(None, feed)
        return {name: np.atleast_1d(value)[0]
                for name, value in zip(self._output_names, values, strict=True)}, resize


class OnnxDetector:
    """
    A detector whose boxes one of :data:`~perception_nodes.backends.heads.HEADS` reads.

    The network runs once on construction, so that one which is not what the manifest says is
    refused then.

    :raises ValueError: If its input, its outputs or its classes are not the manifest's.
    """

    def __init__(self, network: ImageNetwork, entry: ModelEntry) -> None:
        if entry.head not in HEADS:
            raise ValueError(
                f"model '{entry.name}' names head '{entry.head}'; "
                f'choose one of {", ".join(HEADS)}')
        self.class_names = entry.class_names
        self._read = HEADS[entry.head].read
        self._columns = ScoreColumns(entry.class_names)
        try:
            self._network = network
            (outputs, _), = network.run([black(network)])
            self._boxes(outputs)
        except ValueError as error:
            raise ValueError(f"model '{entry.name}': {error}") from error
        self.needs_suppression = HEADS[entry.head].needs_suppression and not (
            entry.head == 'yolo'
            and is_end_to_end(
                next(iter(outputs.values())).shape, self._columns, self._network.size))

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Find objects in each (H, W, 3) uint8 RGB frame; see ``DetectorModel``."""
        return [self._detections(*answer) for answer in self._network.run(frames)]

    def _detections(self, outputs: dict[str, npt.NDArray[Any]], resize: Resize) -> Detections:
        found = self._boxes(outputs)
        return Detections(resize.undo(found.boxes_xyxy), found.scores, found.class_ids)

    def _boxes(self, outputs: dict[str, npt.NDArray[Any]]) -> Detections:
        floats = {name: value.astype(np.float32, copy=False) for name, value in outputs.items()}
        check_numbers(floats)
        return self._read(floats, self._network.size, self._columns)


def load_detector(entry: ModelEntry, device: str, half_precision: bool) -> OnnxDetector:
    """Load a detection model; see :func:`perception_nodes.backends.registry.load_model`."""
    return OnnxDetector(open_network(entry, device, half_precision), entry)


def black(network: ImageNetwork) -> npt.NDArray[np.uint8]:
    """Return a picture to try a network with."""
    return np.zeros((*network.size[::-1], 3), np.uint8)


def open_network(entry: ModelEntry, device: str, half_precision: bool) -> ImageNetwork:
    """
    Load the file of a network that takes one image, into what suits the device.

    :raises ValueError: If it cannot be loaded, or not onto this device.
    """
    choice = choose_runtime(entry.backend, device)
    try:
        if choice.runtime == 'torch':
            from perception_nodes.backends.onnx_device import OnnxInTorch
            return OnnxInTorch(entry, choice.device, half_precision)
        if choice.runtime == 'openvino':
            from perception_nodes.backends.openvino_session import OpenVinoSession
            return OnnxNetwork(OpenVinoSession(entry, half_precision), entry)
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    session = open_session(entry, choice.device, half_precision)
    try:
        return OnnxNetwork(session, entry)
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error


def check_image_shape(shape: Sequence[Any], entry: ModelEntry) -> None:
    """
    Refuse a network whose input is not the manifest's image.

    :param shape: Of its input with the batch; sides that are free are no positive numbers.
    """
    if len(shape) != 4:
        raise ValueError(
            f'the network asks for an input of shape {tuple(shape)}; expected one image, (1, 3, '
            'height, width) or (1, height, width, 3): export it without its pre- and '
            'post-processing')
    image = entry.input
    wanted = (3, image.height, image.width)
    if image.layout == 'NHWC':
        wanted = (image.height, image.width, 3)
    if any(isinstance(n, int) and n > 0 and n != want
           for n, want in zip(shape[1:], wanted, strict=True)):
        raise ValueError(
            f'the network takes images of shape {tuple(shape[1:])} only, not {wanted} '
            f'({image.layout}); leave input_size empty, or correct the manifest')


def _image_input(session: Any, entry: ModelEntry) -> tuple[str, Any]:
    """Return the name and dtype of the input, which must be one image of the manifest's size."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        found = ', '.join(f'{i.name} {i.shape}' for i in inputs)
        raise ValueError(
            f'the network asks for {found}; expected one image, (1, 3, height, width) or (1, '
            'height, width, 3): export it without its pre- and post-processing')
    check_image_shape(inputs[0].shape, entry)
    if inputs[0].type not in _INPUT_DTYPES:
        raise ValueError(
            f'the network takes {inputs[0].type}; supported are {", ".join(_INPUT_DTYPES)}')
    return inputs[0].name, _INPUT_DTYPES[inputs[0].type]


def open_session(
    entry: ModelEntry, device: str, half_precision: bool
) -> 'onnxruntime.InferenceSession':
    """
    Load a network of any task into onnxruntime.

    :param device: ``auto``, ``cpu``, ``cuda:N`` or ``tensorrt:N``.
    :raises ValueError: If onnxruntime cannot load the file, or not onto this device.
    """
    import onnxruntime

    providers = _providers(device, entry, half_precision)
    if half_precision and _name(providers[0]) != TENSORRT:
        raise ValueError(
            f"model '{entry.name}': half_precision is true, but in onnxruntime an ONNX file has "
            'the precision it was exported with; set it to false, or export the network in 16 '
            'bits')
    options = onnxruntime.SessionOptions()
    # one thread: a robot runs many nodes, and two threads on a busy machine are slower than one
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    path = entry.verified_path()
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
    log.info("model '%s' runs on %s", entry.name, taken)
    return session


def _providers(device: str, entry: ModelEntry, half_precision: bool) -> list[Any]:
    """Return what onnxruntime is to run on, best first."""
    choice = choose_runtime('onnxruntime', device)
    if choice.runtime != 'onnxruntime':
        if device != 'auto':
            raise ValueError(
                f"device is '{device}', but this onnxruntime has no CUDA; install onnxruntime-gpu "
                "or set device to 'cpu'")
        return [_PROVIDERS['cpu']]
    kind, _, number = choice.device.partition(':')
    if kind == 'cpu':
        return [_PROVIDERS['cpu']]
    import onnxruntime
    if hasattr(onnxruntime, 'preload_dlls'):  # since 1.21: CUDA's libraries as pip installs them
        onnxruntime.preload_dlls()
    said: dict[str, Any] = {'device_id': int(number)}
    if kind == 'tensorrt':
        cache = model_folder() / 'tensorrt'
        cache.mkdir(parents=True, exist_ok=True)
        said |= {'trt_engine_cache_enable': True, 'trt_engine_cache_path': str(cache),
                 'trt_fp16_enable': half_precision}
        log.warning("model '%s': TensorRT builds its engine now, which takes minutes the first "
                    'time; it is kept in %s', entry.name, cache)
    return [(_PROVIDERS[kind], said), _PROVIDERS['cpu']]


def _name(provider: Any) -> str:
    return provider if isinstance(provider, str) else str(provider[0])

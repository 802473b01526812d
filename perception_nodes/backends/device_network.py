"""
A network on its device, and the one way of images there and of answers back.

A GPU gets the 8-bit images as they are, from pinned memory; resizing, normalising and the network
run there; the host waits once, for the answers. A CPU is faster with OpenCV's resize.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
import logging
import sys
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.preprocess import LETTERBOX_GREY, network_input, Resize
from perception_nodes.backends.torch_runtime import inference
from perception_nodes.core.manifest import ModelInput
import torch
from torch import nn
from torch.nn import functional

log = logging.getLogger(__name__)

Frame = npt.NDArray[np.uint8]
Forward = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]

_WARM_UPS = 3  # runs in which libraries choose their kernels, before one is recorded
_MOST_RECORDINGS = 8  # shapes, each with memory of its own
_MOST_PINNED = 32  # shapes: crops of boxes have a new one each time
_LARGEST_DRIFT = 1e-2  # between a recording and the run it was made from, of the largest value

# one recording at a time in a process: while there is one, nobody may wait for the whole device,
# as the beginning of another would, or give memory back
_recording = Lock()


class DeviceNetwork:
    """
    A network from (N, 3, H, W) or (N, H, W, 3) images to tensors, and where it runs.

    :param network: On the CPU. It returns a tensor, or several, of which each row is one image's.
    :param forward: From its images to its answers; None: calling it.
    :param takes_batches: Whether it takes several images at once.
    :param records: Whether to replay CUDA graphs; not for what decides by what it sees.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, half_precision: bool,
        forward: Callable[[nn.Module, torch.Tensor], torch.Tensor | tuple[torch.Tensor, ...]]
        | None = None, *, takes_batches: bool = True, records: bool = True,
    ) -> None:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.eval().to(device)
        self.device = device
        self._half_precision = half_precision
        self.forward_of = forward or (lambda network, images: network(images))
        self._takes_batches = takes_batches
        self._records = records
        self._inputs: dict[ModelInput, DeviceInput] = {}
        self._recordings: dict[tuple[int, ...], Forward | None] = {}
        self._pinned: dict[tuple[int, tuple[int, ...], torch.dtype], torch.Tensor] = {}

    def __del__(self) -> None:
        """Give the memory back to other processes; torch would keep it for itself."""
        if not sys.is_finalizing() and 'device' in self.__dict__ and self.device.type == 'cuda':
            self.__dict__.clear()
            # not waiting: garbage is collected anywhere, also in the middle of a recording
            if _recording.acquire(blocking=False):
                try:
                    torch.cuda.empty_cache()
                finally:
                    _recording.release()

    @property
    def records(self) -> bool:
        """Return whether CUDA graphs are replayed; ``False`` set here frees those there are."""
        return self._records

    @records.setter
    def records(self, value: bool) -> None:
        self._records = value
        if not value:
            self._recordings.clear()

    @property
    def is_cpu(self) -> bool:
        """Return whether answers are on the host anyway."""
        return self.device.type == 'cpu'

    def run(self, frames: Sequence[Frame], spec: ModelInput) -> tuple[torch.Tensor, ...]:
        """
        Return the answers for frames of one shape, tensors on the device.

        The next call may overwrite them.

        :param frames: (H, W, 3) uint8 RGB.
        """
        with inference(self.device, self._half_precision):
            return self.forward(self.prepared(frames, spec))

    def prepared(self, frames: Sequence[Frame], spec: ModelInput) -> torch.Tensor:
        """Return frames of one shape as the network wants them, on the device."""
        if self.is_cpu:
            pixels = np.stack([network_input(frame, spec)[0] for frame in frames])
            return _in_best_order(torch.from_numpy(pixels), spec)
        if spec not in self._inputs:
            self._inputs[spec] = DeviceInput(spec).to(self.device)
        images: torch.Tensor = self._inputs[spec](self.uploaded(frames))
        return images

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the network on prepared images, from a recording where there is one."""
        if not (self.records and self.device.type == 'cuda'):
            return self._answers(images)
        key = tuple(images.shape)
        if key not in self._recordings and len(self._recordings) < _MOST_RECORDINGS:
            self._recordings[key] = _recorded(self._answers, images)
        replay = self._recordings.get(key)
        return replay(images) if replay else self._answers(images)

    @property
    def graphs(self) -> int:
        """Return how many CUDA graphs there are."""
        return sum(replay is not None for replay in self._recordings.values())

    @torch.inference_mode()
    def to_host(self, answers: Sequence[torch.Tensor]) -> list[npt.NDArray[Any]]:
        """Copy tensors to the host, waiting once for all of them."""
        if self.device.type != 'cuda':
            return [answer.contiguous().cpu().numpy() for answer in answers]
        copies = []
        for number, answer in enumerate(answers):
            pinned = self._pinned_like(number, tuple(answer.shape), answer.dtype)
            copies.append(pinned.copy_(answer, non_blocking=True))
        torch.cuda.current_stream(self.device).synchronize()
        return [copy.numpy().copy() for copy in copies]

    def _answers(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if len(images) > 1 and not self._takes_batches:
            each = [self._answers(image) for image in images.split(1)]
            return tuple(torch.cat(parts) for parts in zip(*each, strict=True))
        found = self.forward_of(self.network, images)
        several = found if isinstance(found, tuple) else (found,)
        return tuple(t.float() if t.is_floating_point() else t for t in several)

    def uploaded(self, frames: Sequence[Frame]) -> torch.Tensor:
        """Return frames of one shape as (N, H, W, 3) uint8 on the device."""
        shape = (len(frames), *frames[0].shape)
        if self.device.type != 'cuda':
            return torch.from_numpy(np.stack(frames)).to(self.device)
        pinned = self._pinned_like(-1, shape, torch.uint8)
        np.stack(frames, out=pinned.numpy())
        return pinned.to(self.device, non_blocking=True)

    def _pinned_like(
        self, number: int, shape: tuple[int, ...], dtype: torch.dtype
    ) -> torch.Tensor:
        """Return memory that the device copies from and to by itself; asking for it is slow."""
        key = (number, shape, dtype)
        if key not in self._pinned:
            if len(self._pinned) == _MOST_PINNED:  # the oldest; torch waits for its copies
                del self._pinned[next(iter(self._pinned))]
            self._pinned[key] = torch.empty(shape, dtype=dtype, pin_memory=True)
        return self._pinned[key]


class DeviceInput(nn.Module):
    """
    :func:`~perception_nodes.backends.preprocess.network_input` on the device of its images.

    Interpolated values are not rounded to 8 bits, so they differ from OpenCV's by up to a level.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, spec: ModelInput) -> None:
        super().__init__()
        self._spec = spec
        for name, values in (('mean', spec.mean), ('std', spec.std)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """
        Resize and normalise.

        :param frames: (N, H, W, 3) uint8 RGB.
        :return: (N, 3, h, w) float32 in channels_last, or (N, h, w, 3), as the layout says.
        """
        spec = self._spec
        height, width = frames.shape[1:3]
        placed = self._placed(
            frames.permute(0, 3, 1, 2).float(), Resize.between(width, height, spec))
        ordered = placed.flip(1) if spec.color == 'bgr' else placed
        normal = (ordered - self.mean) / self.std
        laid_out = normal.permute(0, 2, 3, 1) if spec.layout == 'NHWC' else normal
        return _in_best_order(laid_out, spec)

    def _placed(self, images: torch.Tensor, resize: Resize) -> torch.Tensor:
        spec = self._spec
        height, width = images.shape[2:]
        size = (round(height * resize.scale_xy[1]), round(width * resize.scale_xy[0]))
        is_crop = spec.resize == 'center_crop'
        if size != (height, width):
            images = functional.interpolate(
                images, size, mode='bilinear', antialias=is_crop and size[1] < width)
        left, top = (int(o) for o in resize.offset_xy)
        if is_crop:
            return images[..., -top:-top + spec.height, -left:-left + spec.width]
        edges = (left, spec.width - size[1] - left, top, spec.height - size[0] - top)
        return functional.pad(images, edges, value=LETTERBOX_GREY) if any(edges) else images


def by_shape(frames: Sequence[Frame]) -> list[list[int]]:
    """Return the places of frames of each shape: what can be one batch."""
    places: dict[tuple[int, ...], list[int]] = {}
    for i, frame in enumerate(frames):
        places.setdefault(frame.shape, []).append(i)
    return list(places.values())


def _in_best_order(images: torch.Tensor, spec: ModelInput) -> torch.Tensor:
    """Return images in the memory order that convolutions like: colours last."""
    if spec.layout == 'NHWC':
        return images.contiguous()
    return images.contiguous(memory_format=torch.channels_last)


def _recorded(function: Forward, example: torch.Tensor) -> Forward | None:
    """
    Return a function that replays on the GPU what another one launches, as one CUDA graph.

    Small networks are otherwise slower to launch than to compute. Where recording is impossible,
    or replays something else, there is none, which is said.
    """
    images = example.clone()
    graph = torch.cuda.CUDAGraph()
    try:
        expected, answers = _captured(graph, function, images)
        graph.replay()
        drifts = [float((a.float() - b).abs().max() / b.float().abs().max().clamp(min=1e-6))
                  for a, b in zip(answers, expected, strict=True)]
    except _RecordingError as error:
        _stream_of_recordings.cache_clear()  # what failed may have left it unusable
        log.warning('no CUDA graph for images of shape %s, which run without: %s',
                    tuple(example.shape), str(error).partition('\n')[0])
        return None
    if not max(drifts) <= _LARGEST_DRIFT:
        log.warning('the CUDA graph for images of shape %s answers otherwise and is not used',
                    tuple(example.shape))
        return None

    def replay(newest: torch.Tensor) -> tuple[torch.Tensor, ...]:
        images.copy_(newest)
        graph.replay()
        return answers

    return replay


class _RecordingError(Exception):
    """A function that runs, but not as a recording."""


def _captured(
    graph: torch.cuda.CUDAGraph, function: Forward, images: torch.Tensor
) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
    """
    Run a function, then record it.

    :return: What it answered, and where the recording will leave its answers.
    :raises _RecordingError: If it runs, but cannot be recorded, also for lack of memory.
    """
    stream = _stream_of_recordings(images.device)
    current = torch.cuda.current_stream(images.device)
    with _recording, torch.cuda.stream(stream):
        stream.wait_stream(current)
        for _ in range(_WARM_UPS):
            expected = [answer.clone() for answer in function(images)]
        current.wait_stream(stream)
        try:
            # other nodes of this process may use the GPU meanwhile, in their own threads
            with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
                answers = function(images)
        except RuntimeError as error:
            raise _RecordingError(str(error)) from error
    return expected, answers


@lru_cache
def _stream_of_recordings(device: torch.device) -> torch.cuda.Stream:
    """Return one stream for all: libraries keep working memory for each that they have seen."""
    return torch.cuda.Stream(device)

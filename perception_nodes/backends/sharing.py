"""
One copy of a network for all nodes of a process that ask for the same.

Where they take turns on a GPU, frames that come together are one batch. There is no timer: who
finds the network idle runs it at once; who comes meanwhile is in the next run, with all others
that wait. So a single camera pays nothing, and a frame waits for no more than the run before its
own.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
import logging
from threading import Condition, Lock
import time
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.registry import load_model
from perception_nodes.backends.runtime_choice import is_torch_on_gpu
from perception_nodes.core.latency import waited_for_others
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.protocols import Select
from perception_nodes.core.types import Detections

log = logging.getLogger(__name__)

Frames = Sequence[npt.NDArray[np.uint8]]

# frames; there are CUDA graphs for as many sizes, and gpu_check measures up to it
LARGEST_BATCH = 8

_loading = Lock()
# a model lives as long as a node holds it
_loaded: WeakValueDictionary[str, Any] = WeakValueDictionary()


def share_model(
    entry: ModelEntry, device: str = 'auto', *, half_precision: bool = False,
    input_size: tuple[int, ...] = (),
) -> Any:
    """
    Load a model, or take the one that another node has loaded from the same entry and settings.

    - In torch on a GPU nodes take turns, and share batches (:class:`SharedModel`).
    - In onnxruntime they run one session at the same time, each in its own thread.
    - In other runtimes on a CPU each node gets its own copy, which leaves it a core of its own:
      batches gain nothing there, and not every network can be run by two threads at once.

    Parameters and errors are those of :func:`~perception_nodes.backends.registry.load_model`. The
    model is freed when the last node lets go of it.
    """
    by_turns = is_torch_on_gpu(entry.backend, device)
    settings: dict[str, Any] = {'half_precision': half_precision, 'input_size': input_size}
    if not by_turns and entry.backend != 'onnxruntime':
        return load_model(entry, device, **settings)
    # text, as entries hold mappings, which have no hash
    key = repr((entry.with_input_size(input_size), device, half_precision))
    with _loading:
        model = _loaded.get(key)
        if model is not None:
            entry.verified_path()  # as loading does: the file may have changed since
            log.info("model '%s' is shared with another node of this process", entry.name)
            return model
        model = load_model(entry, device, **settings)
        if by_turns:
            model = SharedModel(model)
        _loaded[key] = model
        return model


@dataclass(eq=False)
class _Request:
    """Frames that one node hands in, and what became of them."""

    frames: Frames
    options: Mapping[str, Any] = field(default_factory=dict)
    select: Select | None = None  # of those who ask for instances
    begun_ns: int = 0  # the latest run that they were part of
    is_alone: bool = False  # a batch with them has failed
    answers: list[Any] | None = None

    def goes_with(self, other: '_Request') -> bool:
        """Return whether both can be answered by one call of the model."""
        return not (self.is_alone or other.is_alone) and self.options == other.options and (
            self.select is None) == (other.select is None)


class SharedModel:
    """
    A model that is used from several threads by turns, with the face of the model itself.

    A batch that fails is run again node by node, so that each has its own error only.

    :param model: Any model of images; it keeps nothing from one call to the next, and no thread
        but one is in it at a time.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._changed = Condition()
        self._waiting: deque[_Request] = deque()
        self._is_running = False
        self._has_failed = False

    def __getattr__(self, name: str) -> Any:
        """Return what the model says of itself: its classes, and what it gives."""
        return getattr(self._model, name)

    def predict(self, frames: Frames, **options: Any) -> list[Any]:
        """Answer for each (H, W, 3) uint8 RGB frame as the model does; see its protocol."""
        return self._answers(_Request(frames, options))

    def predict_instances(self, frames: Frames, select: Select) -> list[Detections]:
        """Find objects with masks or key points; see ``InstanceModel``."""
        return self._answers(_Request(frames, select=select))

    def _answers(self, request: _Request) -> list[Any]:
        asked_ns = time.monotonic_ns()
        with self._changed:
            self._waiting.append(request)
        try:
            while request.answers is None:
                if batch := self._turn(request):
                    self._lead(batch)
        except BaseException:  # a failure, or Ctrl-C: nobody waits for these answers any more
            with self._changed:
                request.answers = []
                if request in self._waiting:
                    self._waiting.remove(request)
                self._changed.notify_all()
            raise
        waited_for_others(request.begun_ns - asked_ns)
        return request.answers

    def _turn(self, request: _Request) -> list[_Request]:
        """Wait for the answers to a request, or else for its turn; return the batch to run."""
        with self._changed:
            self._changed.wait_for(lambda: request.answers is not None or (
                not self._is_running and self._waiting[0] is request))
            if request.answers is not None:
                return []
            batch = self._next_batch()
            for member in batch:
                self._waiting.remove(member)
                member.begun_ns = time.monotonic_ns()
            self._is_running = True
            return batch

    def _next_batch(self) -> list[_Request]:
        """Return the oldest request, and those that go with it, as far as a batch may grow."""
        batch, room = [self._waiting[0]], LARGEST_BATCH - len(self._waiting[0].frames)
        for request in islice(self._waiting, 1, None):
            if request.goes_with(batch[0]):
                room -= len(request.frames)
                if room < 0:
                    break
                batch.append(request)
        return batch

    def _lead(self, batch: list[_Request]) -> None:
        """Run a batch whose first request is the caller's."""
        try:
            self._run(batch)
        except Exception as error:
            if len(batch) == 1:
                raise
            self._tell(len(batch), error)
        finally:
            with self._changed:
                self._is_running = False
                for request in reversed(batch):
                    if request.answers is None:
                        request.is_alone = True
                        self._waiting.appendleft(request)
                self._changed.notify_all()

    def _run(self, batch: list[_Request]) -> None:
        frames = [frame for request in batch for frame in request.frames]
        if batch[0].select is None:
            found = iter(self._model.predict(frames, **batch[0].options))
        else:
            selects = iter([request.select for request in batch for _ in request.frames])
            found = iter(self._model.predict_instances(
                frames, lambda boxes: next(selects)(boxes)))  # type: ignore[misc]
        for request in batch:
            request.answers = list(islice(found, len(request.frames)))

    def _tell(self, nodes: int, error: Exception) -> None:
        if not self._has_failed:
            log.warning('a batch of %d nodes failed (%s): each is now run alone; this is said '
                        'once', nodes, error)
        self._has_failed = True

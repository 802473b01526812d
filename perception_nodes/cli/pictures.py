"""
Where pictures come from: folders, videos and live cameras. Nothing here needs ROS.

    for picture in open_pictures('holiday/'):
        show(picture.rgb)
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
import logging
import math
import os
from pathlib import Path
import re
import threading
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.latest import LatestSlots

log = logging.getLogger(__name__)

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
FOLDER_RATE_HZ = 5.0

_USUAL_VIDEO_RATE_HZ = 30.0
_OPEN_TIMEOUT_MS = 10_000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
# OpenCV's libraries write about every camera they cannot open: our sentence is enough
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture and what to call it when it is spoken of."""

    name: str  # the file's name, or the number of the frame
    rgb: npt.NDArray[np.uint8]  # (H, W, 3)


class PictureSource(Protocol):
    """Pictures in order; iterating again starts again."""

    @property
    def rate_hz(self) -> float | None:
        """Return its own pace; None where pictures come when they come."""
        ...

    @property
    def skipped(self) -> int:
        """Return how many pictures could not be read so far."""
        ...

    def __iter__(self) -> Iterator[Picture]: ...

    def count(self) -> int | None:
        """Return how many pictures one pass yields; None where nobody knows."""
        ...


def open_pictures(
    source: str, start_s: float = 0.0, size: tuple[int, int] | None = None
) -> PictureSource:
    """
    Open whatever ``source`` names.

    :param source: A folder of pictures, one picture, a video file, a camera (``0``,
        ``/dev/video0``), or the URL of a camera or video (RTSP, HTTP).
    :param start_s: How far into a folder or video to begin, in seconds at its own rate.
    :param size: (width, height) in pixels to stretch every picture to; None keeps each as it is.
    :raises OSError: If there is nothing, or nothing that can be opened.
    :raises ValueError: If there is no picture in it.
    """
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    found = _find(source, start_s, size)
    return found if size is None else _Resized(found, size)


def _find(source: str, start_s: float, size: tuple[int, int] | None) -> PictureSource:
    if _is_live(source):
        if start_s:
            raise ValueError(f'{source} is a live camera: it has no start to skip')
        return LiveCamera(source, size)
    if '://' in source:
        return Video(source, start_s)
    path = Path(source)
    if path.is_dir():
        return PictureFiles(_pictures_in(path), start_s)
    if not path.exists():
        raise FileNotFoundError(
            f'{source} does not exist; name a folder of pictures, a picture, a video, a camera '
            '(0 or /dev/video0) or a URL')
    if path.suffix.lower() in SUFFIXES:
        return PictureFiles([path], start_s)
    return Video(source, start_s)


def _is_live(source: str) -> bool:
    if '://' not in source:
        return source.isdecimal() or source.startswith('/dev/')
    # a stream without a length is a camera
    capture = _capture(source)
    try:
        return bool(capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0)
    finally:
        capture.release()


def _pictures_in(folder: Path) -> list[Path]:
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise ValueError(
            f'folder {folder} holds no picture; looked for {", ".join(SUFFIXES)}')
    return sorted(paths, key=_natural_order)


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Return a sorting key that puts frame_9 before frame_10."""
    parts = re.split(r'(\d+)', path.name)
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]


class PictureFiles:
    """Picture files, in the order given. One that cannot be read is said and skipped."""

    rate_hz = FOLDER_RATE_HZ

    def __init__(self, paths: list[Path], start_s: float = 0.0) -> None:
        first = round(start_s * FOLDER_RATE_HZ)
        if first >= len(paths):
            raise ValueError(
                f'start is {start_s:g} s, but {len(paths)} picture(s) at {FOLDER_RATE_HZ:g} Hz '
                f'last {len(paths) / FOLDER_RATE_HZ:g} s')
        self._paths = paths[first:]
        self.skipped = 0

    def count(self) -> int | None:
        return len(self._paths)

    def __iter__(self) -> Iterator[Picture]:
        for path in self._paths:
            bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if bgr is None:
                self.skipped += 1
                log.warning('skipped %s: it cannot be read as a picture', path)
                continue
            yield Picture(path.name, _rgb(bgr))


class Video:
    """A video file, or one behind a URL."""

    def __init__(self, source: str, start_s: float = 0.0) -> None:
        self._source = source
        self.skipped = 0
        capture = _capture(source)
        rate_hz = capture.get(cv2.CAP_PROP_FPS)
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        readable = capture.grab()
        capture.release()
        if not readable:
            raise ValueError(f'video {source} holds no frame that can be decoded')
        if not math.isfinite(rate_hz) or not 0.0 < rate_hz <= 1000.0:
            log.warning('video %s gives no frame rate; taking %g Hz', source,
                        _USUAL_VIDEO_RATE_HZ)
            rate_hz = _USUAL_VIDEO_RATE_HZ
        self.rate_hz = rate_hz
        self._first = round(start_s * rate_hz)
        self._frames = frames
        if 0 < frames <= self._first:
            raise ValueError(
                f'start is {start_s:g} s, but video {source} lasts {frames / rate_hz:g} s')

    def count(self) -> int | None:
        return self._frames - self._first if self._frames > 0 else None

    def __iter__(self) -> Iterator[Picture]:
        capture = _capture(self._source)
        try:
            if self._first:
                capture.set(cv2.CAP_PROP_POS_FRAMES, self._first)
            number = self._first
            while True:
                read, bgr = capture.read()
                if not read:
                    return
                yield Picture(f'frame {number}', _rgb(bgr))
                number += 1
        finally:
            capture.release()


class LiveCamera:
    """
    A camera that delivers when it likes; the newest frame wins.

    A thread reads, so that a slow consumer gets fresh frames and a stalled camera does not hold
    an interrupt up. A camera that stops delivering is opened again, at growing intervals.
    """

    rate_hz = None

    def __init__(self, source: str, size: tuple[int, int] | None = None) -> None:
        self._source = source
        self._size = size
        self.skipped = 0
        self._capture = self._open()
        self._newest: LatestSlots[npt.NDArray[np.uint8]] = LatestSlots()
        self._stopping = threading.Event()

    def count(self) -> int | None:
        return None

    def __iter__(self) -> Iterator[Picture]:
        reader = threading.Thread(target=self._read, name='camera', daemon=True)
        reader.start()
        number = 0
        try:
            while frames := self._newest.take():
                yield Picture(f'frame {number}', _rgb(frames[self._source]))
                number += 1
        finally:
            self._stopping.set()
            reader.join(timeout=2.0)  # a camera may hang inside its driver

    def _read(self) -> None:
        lost, pause_s = False, _FIRST_PAUSE_S
        while not self._stopping.is_set():
            read, bgr = self._capture.read()
            if read:
                if lost:
                    log.info('camera %s delivers again', self._source)
                lost, pause_s = False, _FIRST_PAUSE_S
                self._newest.put(self._source, np.asarray(bgr, np.uint8))
                continue
            if not lost:
                log.warning('camera %s stopped delivering; opening it again', self._source)
            lost = True
            self._capture.release()
            self._stopping.wait(pause_s)
            pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
            with suppress(OSError):  # the next round tries again
                self._capture = self._open()
        self._capture.release()

    def _open(self) -> cv2.VideoCapture:
        capture = _capture(self._source)
        if self._size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
        return capture


class _Resized:
    """Stretches the pictures of another source to one size."""

    def __init__(self, source: PictureSource, size: tuple[int, int]) -> None:
        self._source = source
        self._size = size
        self.rate_hz = source.rate_hz

    @property
    def skipped(self) -> int:
        return self._source.skipped

    def count(self) -> int | None:
        return self._source.count()

    def __iter__(self) -> Iterator[Picture]:
        for picture in self._source:
            height, width = picture.rgb.shape[:2]
            if (width, height) == self._size:
                yield picture
                continue
            shrinks = self._size[0] * self._size[1] < width * height
            kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            rgb = cv2.resize(picture.rgb, self._size, interpolation=kind)
            yield Picture(picture.name, np.asarray(rgb, np.uint8))


def _rgb(bgr: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _capture(source: str) -> cv2.VideoCapture:
    """
    Open a file, a device or a URL with OpenCV.

    :raises OSError: With what may be wrong.
    """
    if '://' in source:
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS])
        reason = 'is its address right, and the camera on the network?'
    elif source.isdecimal() or source.startswith('/dev/'):
        device = f'/dev/video{source}' if source.isdecimal() else source
        capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        reason = _why_no_camera(Path(device))
    else:
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG)
        reason = 'it is neither a picture nor a video that this OpenCV can decode'
    if not capture.isOpened():
        raise OSError(f'{source} cannot be opened: {reason}')
    return capture


def _why_no_camera(device: Path) -> str:
    if not device.exists():
        present = ', '.join(sorted(str(path) for path in Path('/dev').glob('video*')))
        return f'there is no {device}; there is {present or "no camera on this machine"}'
    if not os.access(device, os.R_OK | os.W_OK):
        return f'{device} may not be read by this user: add the user to the group video'
    return f'{device} is busy, or no camera that delivers pictures'

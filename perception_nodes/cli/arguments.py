"""Types of command-line arguments: each turns a word into a value or says what is allowed."""

import argparse
import math
import os
from pathlib import Path
import re

from perception_nodes.core.types import CameraIntrinsics


def positive(text: str) -> float:
    """Return a number above 0."""
    value = _number(text)
    if value <= 0.0:
        raise argparse.ArgumentTypeError(f'{text} must be more than 0')
    return value


def not_negative(text: str) -> float:
    """Return a number of 0 or more."""
    value = _number(text)
    if value < 0.0:
        raise argparse.ArgumentTypeError(f'{text} must be 0 or more')
    return value


def count(text: str) -> int:
    """Return a whole number of 1 or more."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number of 1 or more")
    return int(text)


def whole_number(text: str) -> int:
    """Return a whole number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number of 0 or more")
    return int(text)


def field_of_view(text: str) -> float:
    """Return degrees that make a camera."""
    try:
        CameraIntrinsics.from_fov(1, 1, _number(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return float(text)


def image_size(text: str) -> tuple[int, int]:
    """Return (width, height) in pixels from ``640x480``."""
    match = re.fullmatch(r'([1-9]\d{0,4})x([1-9]\d{0,4})', text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; write it as 640x480")
    return int(match[1]), int(match[2])


def renaming(text: str) -> tuple[str, str]:
    """Return two topic names from ``/from:=/to``."""
    old, assigned, new = text.partition(':=')
    if not (old and assigned and new):
        raise argparse.ArgumentTypeError(f"'{text}' renames nothing; write it as /from:=/to")
    return old, new


def renamed_classes(text: str) -> dict[str, str]:
    """Return class names by those they replace, from ``sofa=couch,tvmonitor=tv``."""
    pairs = [pair.split('=') for pair in text.split(',')]
    if any(len(pair) != 2 or not all(part.strip() for part in pair) for pair in pairs):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no list of names; write it as 'sofa=couch,tvmonitor=tv'")
    return {theirs.strip(): ours.strip() for theirs, ours in pairs}


def result_folder(text: str) -> Path:
    """Return a folder that can be written to, once it is made: asked before hours of work."""
    folder = Path(text)
    _check_room(folder)
    return folder


def result_file(text: str) -> Path:
    """Return a file whose folder can be written to, once it is made."""
    file = Path(text)
    if file.is_dir():
        raise argparse.ArgumentTypeError(
            f"{text} is a folder; name a file in it, such as {file / 'result.json'}")
    _check_room(file.parent)
    return file


def _check_room(folder: Path) -> None:
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f'{there} is a file; name a folder')
    if not os.access(there, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(
            f'{there} cannot be written to; change its permissions, or name another folder')


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is no number")
    return value

"""Files that are either there whole or not there, whenever the program that writes them ends."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """
    Give a draft to write, which takes the place of ``file`` at the end.

    It is removed if the body raises; a program that was killed leaves it, for the next to replace.

    :param file: Path in a folder that exists.
    :return: The path of the draft, see :func:`draft_of`.
    """
    draft = draft_of(file)
    try:
        yield draft
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def draft_of(file: Path) -> Path:
    """Return where :func:`whole_file` writes: beside the file, hidden, with another suffix."""
    return file.with_name(f'.{file.name}.part')

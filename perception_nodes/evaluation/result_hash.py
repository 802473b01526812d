"""
One number for all results of a bag: the same bag through the same parameters has the same hash.

It is taken over what messages say, not over their bytes: Fast CDR leaves the padding between
fields as it finds it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
import hashlib
from typing import Any

import numpy as np


def content_digest(content: Any) -> bytes:
    """
    Return the sha256 of a result.

    :param content: Made of dataclasses, mappings, sequences, arrays, strings and numbers.
    """
    total = hashlib.sha256()
    for part in _parts(content):
        total.update(part)
    return total.digest()


def lockstep_hash(results: Iterable[tuple[int, str, bytes]]) -> str:
    """
    Return the sha256 over all results, in the order of stamps, then topics.

    :param results: stamp_ns, topic and digest of the content of each.
    """
    total = hashlib.sha256()
    for stamp_ns, topic, digest in sorted(results):
        total.update(f'{topic} {stamp_ns} '.encode())
        total.update(digest)
    return total.hexdigest()


def _parts(content: Any) -> Iterable[bytes]:
    if is_dataclass(content):
        for f in fields(content):
            yield f.name.encode()
            yield from _parts(getattr(content, f.name))
    elif isinstance(content, np.ndarray):
        # of nothing, not even what was counted is known: a message without boxes has no ids
        yield f'{content.dtype.str}{content.shape}'.encode() if content.size else b'None'
        yield np.ascontiguousarray(content).tobytes()
    elif isinstance(content, Mapping):
        for key in sorted(content):
            yield repr(key).encode()
            yield from _parts(content[key])
    elif isinstance(content, (tuple, list)):
        yield f'{len(content)}'.encode()
        for item in content:
            yield from _parts(item)
    else:
        yield repr(content).encode()

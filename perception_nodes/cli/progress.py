"""A progress bar where a person is watching, that what is said does not tear apart."""

from collections.abc import Iterator
from contextlib import contextmanager
import logging

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


@contextmanager
def progress(total: int | None, unit: str) -> Iterator[tqdm]:
    """
    Show a bar on a terminal, and nothing elsewhere.

    :param total: How many steps there will be; None where nobody knows.
    :param unit: What a step is, in the singular.
    """
    with (logging_redirect_tqdm([logging.getLogger('perception_nodes')]),
          tqdm(total=total, unit=unit, disable=None, leave=False) as bar):
        yield bar

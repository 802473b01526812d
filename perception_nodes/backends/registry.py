"""The one table from (task, backend) to the code that loads it; imports happen on first use."""

from importlib import import_module
from typing import Any

from perception_nodes.core.manifest import ModelEntry

_LOADERS = {
    ('detection', 'onnxruntime'): 'onnxruntime_backend:load_detector',
}


def load_model(entry: ModelEntry, device: str = 'auto') -> Any:
    """
    Load the weights of a manifest entry onto a device.

    :param device: ``auto``, ``cpu`` or ``cuda:N``.
    :return: An object of the protocol that ``entry.task`` names.
    :raises ValueError: If the backend cannot do the task, or the weights are not the right ones.
    :raises FileNotFoundError: If the weights are missing.
    :raises ImportError: If the backend's package is not installed.
    """
    key = (entry.task, entry.backend)
    if key not in _LOADERS:
        known = sorted(backend for task, backend in _LOADERS if task == entry.task)
        raise ValueError(
            f"model '{entry.name}' asks for backend '{entry.backend}', which cannot do "
            f'{entry.task}; choose one of {", ".join(known) or "none"}')
    module, function = _LOADERS[key].split(':')
    loader = getattr(import_module(f'perception_nodes.backends.{module}'), function)
    return loader(entry, device)

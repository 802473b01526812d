"""The one table from (task, backend) to the code that loads it; imports happen on first use."""

from importlib import import_module
from typing import Any

import numpy as np
from perception_nodes.backends.runtime_choice import (
    is_of_device,
    is_torch_on_gpu,
    lacks_memory,
)
from perception_nodes.core.manifest import ModelEntry

_LOADERS = {
    ('classification', 'onnxruntime'): 'onnxruntime_classification:load_classifier',
    ('classification', 'openvino'): 'onnxruntime_classification:load_classifier',
    ('classification', 'own'): 'own_backend:load_classifier',
    ('classification', 'torchvision'): 'torchvision_classification:load_classifier',
    ('detection', 'onnxruntime'): 'onnxruntime_backend:load_detector',
    ('detection', 'openvino'): 'onnxruntime_backend:load_detector',
    ('detection', 'torchvision'): 'torchvision_backend:load_detector',
    ('detection', 'ultralytics'): 'ultralytics_backend:load_detector',
    ('grasping', 'onnxruntime'): 'onnxruntime_grasping:load_grasping',
    ('navigation', 'onnxruntime'): 'onnxruntime_navigation:load_policy',
    ('segmentation', 'onnxruntime'): 'onnxruntime_segmentation:load_segmenter',
    ('segmentation', 'openvino'): 'onnxruntime_segmentation:load_segmenter',
    ('segmentation', 'own'): 'own_backend:load_segmenter',
    ('segmentation', 'torchvision'): 'torchvision_segmentation:load_segmenter',
    ('segmentation', 'ultralytics'): 'ultralytics_segmentation:load_segmenter',
    ('instances', 'torchvision'): 'torchvision_instances:load_instances',
    ('instances', 'ultralytics'): 'ultralytics_instances:load_instances',
}

_INSTALL = {
    'onnxruntime': 'pip install onnxruntime',
    'openvino': 'pip install openvino',
    'torch': 'pip install torch torchvision',
    'torchvision': 'pip install torch torchvision',
    'ultralytics': 'pip install ultralytics-opencv-headless (its licence is AGPL-3.0, which may '
                   'bind the program that uses it)',
}


def load_model(
    entry: ModelEntry, device: str = 'auto', *, half_precision: bool = False,
    input_size: tuple[int, ...] = (),
) -> Any:
    """
    Load the weights of a manifest entry onto a device.

    On a GPU a network runs once, so that one which does not fit is refused now, and the first
    frame does not wait for libraries.

    :param device: ``auto``, ``cpu``, ``cuda:N``, or ``tensorrt:N`` for ONNX files.
    :param half_precision: Whether to compute in 16 bits.
    :param input_size: Width and height of the network's input, pixels; empty: the model's own.
    :return: An object of the protocol that ``entry.task`` names.
    :raises ValueError: If the backend cannot do the task on this device, the network does not
        fit there, or the weights are not the right ones.
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
    entry.check_file()  # before the vendor's library, which may take seconds to import
    try:
        loader = getattr(import_module(f'perception_nodes.backends.{module}'), function)
        chosen = entry.with_input_size(input_size)
        model = loader(chosen, device, half_precision)
        # those without classes see no pictures
        if entry.class_names and is_torch_on_gpu(entry.backend, device):
            model.predict([np.zeros((chosen.input.height, chosen.input.width, 3), np.uint8)])
        return model
    except ModuleNotFoundError as error:
        if error.name not in _INSTALL:
            raise
        raise ImportError(
            f"model '{entry.name}' needs {error.name}, which is not installed: "
            f'{_INSTALL[error.name]}') from error
    except RuntimeError as error:
        first_sentence = str(error).partition('\n')[0].partition('. ')[0]
        if lacks_memory(error):
            raise ValueError(
                f"model '{entry.name}' does not fit onto device '{device}' ({first_sentence}); "
                'choose a smaller input_size or model, another device, or end what else uses it'
            ) from error
        if is_of_device(error):
            raise ValueError(
                f"model '{entry.name}' does not run on device '{device}' ({first_sentence}); does "
                "this torch support the GPU and its driver? Set device to 'cpu', or install "
                'another torch') from error
        raise

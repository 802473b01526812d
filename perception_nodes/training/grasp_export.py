"""Grasp networks as ONNX files: several inputs, any number of examples at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
import warnings

import numpy as np
import numpy.typing as npt
from perception_nodes.core.whole_file import whole_file
import torch
from torch import nn

_OPSET = 17
_SIZES = ('height', 'width')
_LARGEST_DIFFERENCE = 1e-4  # of the largest output


def export_batched(
    network: nn.Module, inputs: Mapping[str, npt.NDArray[np.float32]], outputs: Sequence[str],
    file: Path, free: Sequence[int] = (),
) -> float:
    """
    Write a network whose inputs and outputs all begin with a free batch axis, in 32 bits.

    :param inputs: Examples by the names that the file gives its inputs, in the order of the
        network's arguments.
    :param outputs: Names of its outputs.
    :param free: Axes of inputs and outputs beside the first that may have any size, in the order
        height, width.
    :return: The largest difference between the file and the network on the examples.
    :raises ValueError: If that is more than rounding.
    """
    network = network.eval().cpu()
    tensors = tuple(torch.from_numpy(values) for values in inputs.values())
    with whole_file(file) as draft:
        with warnings.catch_warnings():  # sizes other than the batch become constants
            warnings.simplefilter('ignore')
            torch.onnx.export(
                network, tensors, str(draft), dynamo=False, opset_version=_OPSET,
                input_names=list(inputs), output_names=list(outputs),
                dynamic_axes={
                    name: {0: f'{name}_count', **dict(zip(free, _SIZES, strict=False))}
                    for name in (*inputs, *outputs)})
        with torch.inference_mode():
            ours = network(*tensors)
        ours = [part.numpy() for part in (ours if isinstance(ours, tuple) else (ours,))]
        theirs = _answers(draft, inputs)
        worst = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
        scale = max(1.0, *(float(np.abs(a).max()) for a in ours))
        if not worst <= _LARGEST_DIFFERENCE * scale:
            raise ValueError(
                f'the ONNX file answers {worst:.2g} otherwise than the network, whose answers '
                f'reach {scale:.2g}; it must not be used: report this as a bug')
    return worst


def _answers(
    file: Path, inputs: Mapping[str, npt.NDArray[np.float32]]
) -> list[npt.NDArray[np.float32]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    return [np.asarray(values) for values in session.run(None, dict(inputs))]

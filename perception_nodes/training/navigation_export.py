"""Trained navigation policies as files that nodes load by name."""

from pathlib import Path
import warnings

import numpy as np
import onnxruntime
from perception_nodes.backends.networks.navigation import NavigationNetwork
from perception_nodes.backends.onnxruntime_navigation import (
    INPUTS,
    METADATA,
    OUTPUTS,
    PolicyFacts,
)
from perception_nodes.core.whole_file import whole_file
from perception_nodes.training.onnx_graph import halve_weights
import torch

_OPSET = 17
_COMPARED = 64  # inputs in a row
_LARGEST_DIFFERENCE = 1e-3  # of an action


def export_policy(network: NavigationNetwork, period_ms: float, file: Path) -> float:
    """
    Write a policy as ONNX, its weights in 16 bits, and compare the file with the network.

    The network's own weights are rounded first, so that both decide the same.

    :param period_ms: Time between two decisions that it was trained with.
    :return: The largest difference of an action over a sequence of random inputs.
    :raises ValueError: If the file decides otherwise.
    """
    import onnx

    network.eval().cpu()
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(weights.half())
    facts = PolicyFacts(
        network.sectors, network.reach_m, period_ms, network.innate, network.memory)
    example = (torch.zeros(1, network.input_size), torch.zeros(1, network.memory))
    with whole_file(file) as draft:
        with warnings.catch_warnings():  # that sizes become constants is what is wanted
            warnings.simplefilter('ignore')
            torch.onnx.export(
                network, example, str(draft), dynamo=False, opset_version=_OPSET,
                input_names=list(INPUTS), output_names=list(OUTPUTS))
        model = onnx.load(str(draft))
        halve_weights(model)
        onnx.helper.set_model_props(model, {METADATA: facts.json()})
        onnx.checker.check_model(model)
        onnx.save(model, str(draft))
        difference = policy_difference(network, draft)
        if not difference <= _LARGEST_DIFFERENCE:
            raise ValueError(
                'the exported file decides otherwise than the network, by up to '
                f'{difference:.2g}; it must not be used: report this as a bug')
    return difference


def policy_difference(network: NavigationNetwork, file: Path) -> float:
    """Return the largest difference between actions of a network and of its file."""
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    rng = np.random.default_rng(0)
    ours = torch.zeros(1, network.memory)
    theirs = ours.numpy()
    worst = 0.0
    for _ in range(_COMPARED):
        inputs = rng.uniform(-1.0, 1.0, (1, network.input_size)).astype(np.float32)
        with torch.inference_mode():
            action, ours = network(torch.from_numpy(inputs), ours)
        exported, theirs = session.run(
            OUTPUTS, dict(zip(INPUTS, (inputs, np.asarray(theirs)), strict=True)))
        worst = max(worst, float(np.abs(action.numpy() - exported).max()))
    return worst

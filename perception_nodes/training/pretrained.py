"""Weights to start from that come with this project: the trunk of the COCO detector."""

from perception_nodes.backends.networks.mobilenet_v2 import MobileNetV2
from perception_nodes.backends.torch_runtime import load_state_dict
from perception_nodes.core.manifest import find_model, ModelEntry
import torch
from torch import nn

SOURCE = 'coco_ssdlite_mobilenet_v2'


def load_coco_trunk(trunk: MobileNetV2) -> None:
    """
    Fill a trunk with what the shipped COCO detector has learned (Apache-2.0).

    Its batch norms are folded into the convolutions.

    :raises ValueError: If the file is not the detector this project ships.
    """
    import onnx

    graph = onnx.load(str(find_model(SOURCE).verified_path())).graph
    constants = _constants(graph)
    readers = {name: node for node in graph.node for name in node.input}
    nodes = iter([node for node in graph.node if node.op_type == 'Conv'])
    with torch.no_grad():
        for layer in trunk.convolutions():
            # the heads of the detector branch off between the blocks, and have other norms
            folded = (_folded(node, readers, constants) for node in nodes if
                      constants[node.input[1]].shape == layer.weight.shape)
            found = next((pair for pair in folded if pair is not None), None)
            if found is None or layer.bias is None:
                raise ValueError(
                    f"the file of model '{SOURCE}' has no further convolution of "
                    f'{tuple(layer.weight.shape)}, as a MobileNetV2 has')
            layer.weight.copy_(found[0])
            layer.bias.copy_(found[1])


def load_classifier_trunk(parts: nn.Module, entry: ModelEntry) -> None:
    """
    Fill a trunk that is one of torchvision's classifiers, cut up, with that one's weights.

    :param parts: Its layers in the order of the classifier.
    :raises ValueError: If the weights are those of another classifier.
    """
    state = parts.state_dict()
    # some files leave out how many batches a norm has seen
    ours = [name for name in state if not name.endswith('.num_batches_tracked')]
    theirs = [value for name, value in load_state_dict(entry.verified_path()).items()
              if not name.endswith('.num_batches_tracked')]
    for name, value in zip(ours, theirs, strict=False):
        if state[name].shape != value.shape:
            raise ValueError(f"the weights of model '{entry.name}' are not those of a "
                             f'{entry.architecture}: one has shape {tuple(value.shape)}, not '
                             f'{tuple(state[name].shape)}')
        state[name].copy_(value)
    if len(theirs) < len(ours):
        raise ValueError(f"the weights of model '{entry.name}' end after {len(theirs)} of "
                         f'{len(ours)} tensors')


def freeze_early(trunk: MobileNetV2) -> None:
    """Leave the early trunk as it is: no gradients are computed for it."""
    for parameter in trunk.early_parameters():
        parameter.requires_grad_(False)


def initialise(trunk: MobileNetV2) -> None:
    """
    Draw a trunk to train from scratch.

    Without norms the signal has to keep its size by itself (He et al., 2015).
    """
    for layer in trunk.convolutions():
        nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _constants(graph):  # type: ignore[no-untyped-def]
    """Return every constant by the name it is used by, also those stored in half precision."""
    from onnx import numpy_helper

    found = {weight.name: torch.from_numpy(numpy_helper.to_array(weight).copy())
             for weight in graph.initializer}
    for node in graph.node:
        if node.op_type == 'Cast' and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]].float()
    return found


def _folded(node, readers, constants):  # type: ignore[no-untyped-def]
    """Return weight and bias of a convolution with what follows it folded in; None for others."""
    weight = constants[node.input[1]]
    scale = torch.ones(len(weight))
    # the way around a block may be added before the offset
    while True:
        node = readers[node.output[0]]
        value = next((constants[name].flatten() for name in node.input if name in constants), None)
        if node.op_type == 'Mul' and value is not None:
            scale = scale * value
        elif node.op_type == 'Add' and value is not None:
            return weight * scale[:, None, None, None], value
        elif node.op_type not in ('Transpose', 'Add'):
            return None

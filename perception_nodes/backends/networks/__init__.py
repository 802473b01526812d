"""
Our own networks: modules without files, by the names that manifests call them.

An architecture ends with a layer of one output per class. Segmenters give (N, C, h, w) logits,
classifiers (N, C).
"""

from collections.abc import Callable
from functools import partial

from perception_nodes.backends.networks.fcn import BACKBONES, Fcn8s
from perception_nodes.backends.networks.lenet import LeNet5
from perception_nodes.backends.networks.segnet import SegNet, segnet_small
from torch import nn

# by task: architecture -> constructor from the number of classes
NETWORKS: dict[str, dict[str, Callable[[int], nn.Module]]] = {
    'classification': {'lenet5': LeNet5},
    'segmentation': {
        'segnet': SegNet,
        'segnet_small': segnet_small,
        **{f'fcn8s_{backbone}': partial(Fcn8s, backbone=backbone) for backbone in BACKBONES},
    },
}

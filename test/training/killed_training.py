"""
A small training, as a program that a test can kill.

Its arguments are a folder and how many epochs, after which it waits to be killed; 0: never.
"""

from pathlib import Path
import sys
import time

import numpy as np
from perception_nodes.training.loop import fit, LoopParams, shuffled, whole_batches
import torch
from torch import nn
from torch.nn import functional

PARAMS = LoopParams(epochs=5, batch_size=8, device='cpu', average=0.9, validate_every=2)


class Lines:
    """Fit a line through noise, with everything that could be forgotten: norm, dropout."""

    score = 'score'

    def __init__(self, stop_in_epoch=0):
        torch.manual_seed(3)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(),
                                     nn.Dropout(0.3), nn.Linear(8, 1))
        self.x = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
        self.y = self.x.sum(1, keepdim=True)
        self.stop_in_epoch = stop_in_epoch

    def parameters(self):
        return list(self.network[3:].parameters()), list(self.network[:3].parameters())

    def steps(self, batch_size):
        return whole_batches(len(self.x), batch_size)

    def batches(self, epoch, batch_size, rng):
        for k, rows in enumerate(shuffled(len(self.x), batch_size, rng)):
            if k == 2 and epoch + 1 == self.stop_in_epoch:
                print('in the middle', flush=True)
                time.sleep(600.0)
            yield torch.from_numpy(rows)

    def losses(self, batch, device):
        noise = torch.from_numpy(np.zeros(1, np.float32))
        return {'line': functional.mse_loss(self.network(self.x[batch] + noise), self.y[batch])}

    def validate(self, network, device):
        return {'score': -float(functional.mse_loss(network(self.x), self.y))}


if __name__ == '__main__':
    fit(Lines(int(sys.argv[2])), PARAMS, Path(sys.argv[1]))

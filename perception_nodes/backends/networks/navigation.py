"""Our own network for map-less navigation: sectors, goal and velocity in, speeds out."""

from typing import Any

from perception_nodes.core.navigation import STATE_SIZE
import torch
from torch import nn

_WINDOW, _STRIDE = 9, 3  # sectors that one unit of the first layer sees, and from one to the next
_UNITS = 16
_WIDE, _FEATURES = 160, 128
_LARGEST_CORRECTION = 2.0  # of the innate action, whose range is -1 to 1


class NavigationNetwork(nn.Module):
    """
    A recurrent network: windows of sectors, two layers, a gated recurrent unit, an action.

    Its input is what :func:`perception_nodes.core.navigation.policy_input` puts together. What
    it remembers is its state alone: it draws no map.

    :param sectors: S, a multiple of three.
    :param reach_m: Range that an observation's ranges are shares of.
    :param innate: Whether the action is a correction of the innate rule's, which the last two
        numbers of the input then are.
    :param memory: H, numbers that the recurrent unit remembers.
    """

    def __init__(self, sectors: int, reach_m: float, *, innate: bool = False,
                 memory: int = 128) -> None:
        super().__init__()
        self.sectors, self.reach_m, self.innate, self.memory = sectors, reach_m, innate, memory
        rest = STATE_SIZE + 2 + 2 * innate + 1
        self.windows = nn.Linear(2 * _WINDOW, _UNITS)
        self.wide = nn.Linear(sectors // _STRIDE * _UNITS + rest, _WIDE)
        self.narrow = nn.Linear(_WIDE, _FEATURES)
        self.recurrent = nn.GRU(_FEATURES, memory)
        self.hidden = nn.Linear(_FEATURES + memory, _FEATURES)
        self.action = nn.Linear(_FEATURES, 2)
        with torch.no_grad():  # an untrained robot drives slowly ahead
            self.action.weight.mul_(0.05)
            self.action.bias.copy_(torch.tensor([0.0 if innate else 0.3, 0.0]))

    @property
    def input_size(self) -> int:
        """Return how many numbers an input has."""
        return self.sectors + STATE_SIZE + 2 + 2 * self.innate

    @property
    def output_features(self) -> int:
        """Return how many features :meth:`encode` gives."""
        return _FEATURES + self.memory

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the (N, F) features of (N, D) inputs, without memory."""
        shares, rest = inputs[:, :self.sectors], inputs[:, self.sectors:]
        unseen = (shares < 0.0).to(inputs.dtype)
        near = 0.3 / (shares.clamp(min=0.0) * self.reach_m + 0.2) * (1.0 - unseen)
        windows = torch.cat([_windows(near), _windows(unseen)], dim=2)
        seen = torch.relu(self.windows(windows)).flatten(1)
        close = torch.exp(-10.0 * rest[:, :1])  # the goal's distance is in tens of metres
        wide = torch.relu(self.wide(torch.cat([seen, rest, close], dim=1)))
        return torch.relu(self.narrow(wide))

    def encode(
        self, inputs: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return what is seen and remembered along sequences.

        :param inputs: (T, N, D).
        :param state: (N, H) before the first.
        :return: (T, N, F + H), and the (N, H) state after the last.
        """
        steps, count = inputs.shape[:2]
        features = self.features(inputs.flatten(0, 1)).reshape(steps, count, -1)
        remembered, last = self.recurrent(features, state[None])
        return torch.cat([features, remembered], dim=2), last[0]

    def decide(self, encoded: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the (..., 2) actions: speed ahead and turn, in about -1 to 1."""
        action = torch.tanh(self.action(torch.relu(self.hidden(encoded))))
        if self.innate:
            return inputs[..., -2:] + _LARGEST_CORRECTION * action
        return action

    def forward(self, inputs: torch.Tensor, state: torch.Tensor) -> tuple[Any, Any]:
        """Return the (N, 2) actions of (N, D) inputs, and the (N, H) next state."""
        encoded, state = self.encode(inputs[None], state)
        return self.decide(encoded[0], inputs), state


def _windows(sectors: torch.Tensor) -> torch.Tensor:
    """Return (N, S / 3, 9) overlapping windows around the circle."""
    edge = _WINDOW // 2
    around = torch.cat([sectors[:, -edge:], sectors, sectors[:, :edge]], dim=1)
    count = sectors.shape[1] // _STRIDE
    # slices instead of unfold, which the ONNX exporter does not know
    return torch.stack(
        [around[:, k:k + count * _STRIDE:_STRIDE] for k in range(_WINDOW)], dim=2)

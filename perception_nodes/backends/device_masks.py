"""Coarse scores to the class of every pixel, on the device where the scores are."""

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.preprocess import Resize
from perception_nodes.backends.segmentation import axes_between
import torch

# scores that are interpolated at once: bands of rows bound the memory of many classes
_MOST_AT_ONCE = 1 << 25

Size = tuple[int, int]


class DeviceMasks:
    """
    What :class:`~perception_nodes.backends.segmentation.MaskReader` computes, for a GPU.

    There every pixel is interpolated: arithmetic is cheap, and the host need not be asked.
    """

    def __init__(self, table: npt.NDArray[np.integer], device: torch.device) -> None:
        # torch indexes poorly with 16 unsigned bits
        wide = table if table.dtype == np.uint8 else table.astype(np.int32)
        self._table = torch.from_numpy(wide).to(device)
        self._steps: dict[tuple[Size, Resize, Size, Size], list[list[torch.Tensor]]] = {}

    @torch.inference_mode()
    def masks(
        self, logits: torch.Tensor, resize: Resize, network_size: Size, image_size: Size, *,
        confidence: bool,
    ) -> tuple[torch.Tensor, ...]:
        """
        Interpolate bilinearly and take the best class of every pixel.

        :param logits: (N, C, h, w) float32 over the whole network input.
        :param resize: How the images were placed in that input.
        :param network_size: Width and height of that input.
        :param image_size: Width and height of the images.
        :return: (N, H, W) ids, whether anything is not a number (a tensor of one), and, where
            asked for, (N, H, W) float32 probabilities.
        """
        rows, columns = self._between(
            (logits.shape[2], logits.shape[3]), resize, network_size, image_size)
        count, classes = logits.shape[:2]
        height, width = len(rows[2]), len(columns[2])
        band = max(1, _MOST_AT_ONCE // (count * classes * width))
        ids, probabilities = [], []
        for top in range(0, height, band):
            first, second, share = (step[top:top + band] for step in rows)
            scores = _mixed(logits, 2, first, second, share[:, None])
            scores = _mixed(scores, 3, *columns)
            highest, best = scores.max(1)
            ids.append(self._table[best])
            if confidence:
                others = (scores - highest[:, None]).exp_().sum(1)
                probabilities.append(others.reciprocal_())
        broken = logits.isnan().any()
        found = (torch.cat(ids, 1), broken)
        return (*found, torch.cat(probabilities, 1)) if confidence else found

    def _between(
        self, cells: Size, resize: Resize, network_size: Size, image_size: Size
    ) -> list[list[torch.Tensor]]:
        """Return first, second and share of the second for rows and for columns."""
        key = (cells, resize, network_size, image_size)
        if key not in self._steps:
            self._steps[key] = [
                [torch.from_numpy(values).to(self._table.device)
                 for values in (axis.first, axis.second, axis.share)]
                for axis in axes_between(cells, resize, network_size, image_size)]
        return self._steps[key]


def _mixed(
    values: torch.Tensor, axis: int, first: torch.Tensor, second: torch.Tensor,
    share: torch.Tensor,
) -> torch.Tensor:
    low, high = values.index_select(axis, first), values.index_select(axis, second)
    return torch.lerp(low, high, share)

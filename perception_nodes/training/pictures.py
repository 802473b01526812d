"""What trainings on labelled pictures can be told."""

from dataclasses import dataclass

from perception_nodes.core.manifest import ModelInput
from perception_nodes.core.params import param, Params
from perception_nodes.training.augmentation import Strength, STRENGTHS

_LARGEST_STRIDE = 32  # pixels


@dataclass(frozen=True, kw_only=True)
class PictureParams(Params):
    """How pictures reach the network, and where it begins."""

    width: int = param(320, "Width of the network's input.", unit='px', ge=_LARGEST_STRIDE)
    height: int = param(240, 'Height of it.', unit='px', ge=_LARGEST_STRIDE)
    resize: str = param('letterbox', 'How pictures get that size: by stretching, or with bars.',
                        choices=('letterbox', 'stretch'))
    augment: str = param('light', 'How much pictures are changed while learning.',
                         choices=tuple(STRENGTHS))
    from_scratch: bool = param(False, 'Begin with random weights instead of pretrained ones.')
    frozen_epochs: int = param(
        5, 'Epochs in which the pretrained layers stay as they are.', ge=0)

    @property
    def strength(self) -> Strength:
        """Return what ``augment`` names."""
        return STRENGTHS[self.augment]

    def model_input(self, mean: tuple[float, float, float],
                    std: tuple[float, float, float]) -> ModelInput:
        """Return what the manifest says of the input."""
        return ModelInput(self.width, self.height, resize=self.resize, mean=mean, std=std)


@dataclass(frozen=True, kw_only=True)
class BoxPictureParams(PictureParams):
    """The same for boxes."""

    views: int = param(
        0, 'How many changed copies there are of each picture; early features of that many are '
        'computed once and kept in memory (77 kB for 320x240). 0: a new one at every step.', ge=0)

"""The parameters that every node with a network has, and the manifest entry they choose."""

from dataclasses import dataclass

from perception_nodes.core.manifest import camera_domain, check_domain, find_model, ModelEntry
from perception_nodes.core.params import param, Params


@dataclass(frozen=True, kw_only=True)
class ModelParams(Params):
    """Which model, and how it runs; a task gives ``model`` its own default."""

    model: str = param('', 'Name of a model in the manifest.')
    manifest: str = param(
        '', 'Path of your own manifest.yaml, searched before the shipped one.')
    device: str = param(
        'auto', "Where the network runs: 'auto' (a GPU where there is one), 'cpu', 'cuda:N', or "
        "'tensorrt:N' for ONNX files.")
    half_precision: bool = param(
        False, 'Run the network in 16 bits: faster on a GPU, refused on a CPU.')
    input_size: tuple[int, ...] = param(
        (), "Width and height of the network's input; empty: the model's own. Only some "
        'networks can be given another.', unit='px', ge=1, le=16384)
    camera_domain: str = param(
        'auto', "Whether the camera is real; 'auto' takes it as simulated under use_sim_time.",
        choices=('auto', 'real', 'simulation'))
    allow_domain_mismatch: bool = param(
        False, 'Accept weights trained only in simulation on a real camera.')

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.input_size) not in (0, 2):
            raise ValueError(
                f"parameter 'input_size' is {list(self.input_size)}; it must be empty or two "
                'numbers, width and height')

    def entry(self, task: str, use_sim_time: bool) -> ModelEntry:
        """
        Find the model, and refuse one that was not trained for this camera.

        :param task: What it has to do, one of :data:`~perception_nodes.core.manifest.TASKS`.
        :param use_sim_time: Whether time comes from ``/clock``.
        :raises FileNotFoundError: If the user's manifest does not exist.
        :raises ValueError: If there is no such model, or it was trained only in simulation and
            the camera is real.
        """
        entry = find_model(self.model, task, self.manifest)
        camera = camera_domain(self.camera_domain, use_sim_time)
        check_domain(entry, camera, self.allow_domain_mismatch, self.manifest)
        return entry

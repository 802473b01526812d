"""What the backends on torch share: the device, the precision, and weights as plain tensors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import logging
from pathlib import Path
import pickle

from perception_nodes.backends.runtime_choice import cuda_device_count, device_number
import torch

log = logging.getLogger(__name__)

# before, a file could run code in spite of weights_only=True (CVE-2025-32434)
_FIRST_SAFE_TORCH = (2, 6)


def choose_device(device: str, half_precision: bool) -> torch.device:
    """
    Return where a network is to run, and keep torch to one CPU thread.

    :param device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
    :raises ValueError: If there is no such device, or it does not gain by 16 bits.
    """
    # two threads make small operations many times slower on a busy machine
    torch.set_num_threads(1)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == 'auto':
        if not gpus and cuda_device_count():
            log.warning('there is a GPU, but torch %s cannot use it: the network runs on the CPU; '
                        'install a torch with CUDA for its driver', torch.__version__)
        device = 'cuda:0' if gpus else 'cpu'
    number = device_number(device, gpus, 'torch')
    if device == 'cpu' and half_precision:
        raise ValueError(
            'half_precision is true, but the network runs on the CPU, where 16 bits are slower '
            'than 32; set it to false or device to a GPU')
    return torch.device('cpu' if number is None else f'cuda:{number}')


@contextmanager
def inference(device: torch.device, half_precision: bool) -> Iterator[None]:
    """
    Compute without gradients, in 16 bits where asked.

    Autocast leaves the arithmetic of boxes in 32 bits: 16 of them resolve half a pixel.
    """
    kind = 'cpu' if device.type == 'meta' else device.type
    # without the cache of weights in 16 bits: a CUDA graph would replay from what it has freed
    with torch.inference_mode(), torch.autocast(
            kind, dtype=torch.float16, enabled=half_precision, cache_enabled=False):
        yield


def require_safe_loading() -> None:
    """
    Refuse to open pickled weights where opening them could run code.

    :raises ImportError: If torch is too old.
    """
    version = tuple(int(part) for part in torch.__version__.split('.')[:2])
    if version < _FIRST_SAFE_TORCH:
        raise ImportError(
            f'torch {torch.__version__} may run code that is hidden in a weights file; install '
            'torch 2.6 or newer, or convert the weights to safetensors')


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """
    Read named tensors without executing anything that the file says.

    :param path: A ``.safetensors`` file, or one written by ``torch.save(model.state_dict())``.
    :raises ValueError: If the file holds anything else.
    :raises ImportError: If safetensors is needed and missing, or torch is too old.
    """
    if path.suffix == '.safetensors':
        return _load_safetensors(path)
    require_safe_loading()
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first_line = str(error).partition('\n')[0]
        raise ValueError(
            f'{path} was not opened: it is damaged, or holds more than weights, which could run '
            f'code; save the network with torch.save(model.state_dict()) ({first_line})'
        ) from error
    if not isinstance(state, dict) or not all(
            isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(
            f'{path} holds no named tensors; save the network with '
            'torch.save(model.state_dict())')
    return state


def fill(network: torch.nn.Module, state: dict[str, torch.Tensor], architecture: str) -> None:
    """
    Put weights into a network, if they are those of its architecture.

    :param architecture: Its name, for the sentence.
    :raises ValueError: If a tensor is missing, unknown or of another shape.
    """
    expected = network.state_dict()
    # normalisation that is old, or frozen, does not count batches
    missing, unknown = (
        sorted(name for name in names if not name.endswith('.num_batches_tracked'))
        for names in (expected.keys() - state, state.keys() - expected))
    if missing or unknown:
        raise ValueError(
            f'the weights are not those of {architecture}: {len(missing)} of its '
            f'{len(expected)} tensors are missing and {len(unknown)} are unknown, for example '
            f'{(missing + unknown)[0]}')
    for name, tensor in expected.items():
        if name in state and tensor.shape != state[name].shape:
            raise ValueError(
                f'the weights are not those of {architecture}: {name} has shape '
                f'{tuple(state[name].shape)}, expected {tuple(tensor.shape)}')
    network.load_state_dict(state, strict=False)


def check_class_count(
    network: torch.nn.Module, state: dict[str, torch.Tensor], class_names: Mapping[int, str]
) -> None:
    """
    Refuse weights for another number of classes than the manifest names.

    :param network: One whose last tensor has an element, or a row, for each class.
    :raises ValueError: With both numbers.
    """
    last, ours = list(network.state_dict().items())[-1]
    theirs = state.get(last, ours)
    if len(theirs) != len(ours) and theirs.shape[1:] == ours.shape[1:]:
        raise ValueError(
            f'the network has {len(theirs)} classes, but the manifest names {len(class_names)} '
            f'with ids from {min(class_names)} to {max(class_names)}; correct its classes or '
            'take the file they belong to')


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise ImportError(f'{path} needs another package: pip install safetensors') from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f'{path} is no safetensors file: {error}') from error

"""
Which runtime runs an ONNX file on which device: the one place of that choice.

On a CPU it is onnxruntime: ``make bench-backends`` measures it beside eager torch and OpenVINO. On
a GPU it is onnxruntime where it was built for CUDA, else torch, which then runs the file itself.
"""

import ctypes
from dataclasses import dataclass
from importlib.util import find_spec
import logging

log = logging.getLogger(__name__)

TENSORRT = 'TensorrtExecutionProvider'
CUDA = 'CUDAExecutionProvider'


@dataclass(frozen=True)
class Choice:
    """A runtime, ``onnxruntime``, ``openvino`` or ``torch``, and ``cpu``, ``cuda:N``, ..."""

    runtime: str
    device: str


def choose_runtime(backend: str, device: str) -> Choice:
    """
    Return what runs an ONNX file.

    :param backend: ``openvino``, or ``onnxruntime`` for what suits the device.
    :param device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda:N`` or ``tensorrt:N``.
    :raises ValueError: If there is no such device, or nothing installed here can use it.
    """
    if backend == 'openvino':
        if device not in ('auto', 'cpu'):
            raise ValueError(
                f"device is '{device}', but backend openvino runs on the CPU only; set device to "
                "'cpu', or the model's backend to onnxruntime")
        return Choice('openvino', 'cpu')
    gpus = cuda_device_count()
    if device == 'auto':
        return _automatic(gpus)
    number = device_number(device, gpus, 'the driver', ('cuda', 'tensorrt'))
    if number is None:
        return Choice('onnxruntime', 'cpu')
    kind = device.partition(':')[0]
    runtime = _runtime_with(TENSORRT if kind == 'tensorrt' else CUDA)
    if not runtime:
        way = ('install onnxruntime-gpu and TensorRT, or set it to a cuda device'
               if kind == 'tensorrt' else
               "install torch with CUDA or onnxruntime-gpu, or set device to 'cpu'")
        raise ValueError(f"device is '{device}', but neither onnxruntime nor torch has "
                         f'{"TensorRT" if kind == "tensorrt" else "CUDA"} here; {way}')
    return Choice(runtime, f'{kind}:{number}')


def device_number(
    device: str, count: int, finder: str, kinds: tuple[str, ...] = ('cuda',)
) -> int | None:
    """
    Return N of ``cuda:N``; None for the CPU.

    :param count: How many GPUs there are.
    :param finder: Who counted them, for the sentence.
    :raises ValueError: If this is no device, or not one of this machine.
    """
    if device == 'cpu':
        return None
    kind, _, index = device.partition(':')
    if kind not in kinds or not (index or '0').isdigit():
        known = ', '.join(["'auto'", "'cpu'", *(f"'{kind}:N'" for kind in kinds[:-1])])
        raise ValueError(f"device is '{device}'; it must be {known} or '{kinds[-1]}:N'")
    if int(index or 0) >= count:
        there = f'only {count} CUDA device(s), counted from 0' if count else 'no CUDA device'
        raise ValueError(
            f"device is '{device}', but {finder} finds {there}; check the GPU's driver and "
            "torch's CUDA version, or set device to 'auto' or 'cpu'")
    return int(index or 0)


def is_torch_on_gpu(backend: str, device: str) -> bool:
    """
    Return whether torch is what runs a network of any backend, and on a GPU.

    :param device: As in :func:`choose_runtime`; one that is not there is refused on loading.
    """
    if device == 'cpu' or backend == 'openvino' or not cuda_device_count():
        return False
    if backend == 'onnxruntime':
        return _runtime_with(TENSORRT if device.startswith('tensorrt') else CUDA) == 'torch'
    return _torch_has_cuda()


def is_of_device(error: Exception) -> bool:
    """Return whether a GPU or its libraries failed, not what was asked of them."""
    return any(name in str(error) for name in ('CUDA', 'CUDNN', 'CUBLAS'))


def lacks_memory(error: Exception) -> bool:
    """Return whether a runtime says that something does not fit; they have no common kind."""
    return any(words in str(error) for words in ('out of memory', 'ALLOC_FAILED'))


def cuda_device_count() -> int:
    """Return how many GPUs NVIDIA's driver offers to this process, without loading a runtime."""
    try:
        driver = ctypes.CDLL('libcuda.so.1')
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _automatic(gpus: int) -> Choice:
    runtime = _runtime_with(CUDA) if gpus else ''
    if gpus and not runtime:
        log.warning('there is a GPU, but neither onnxruntime nor torch has CUDA here: the network '
                    'runs on the CPU; install torch with CUDA or onnxruntime-gpu')
    return Choice(runtime, 'cuda:0') if runtime else Choice('onnxruntime', 'cpu')


def _runtime_with(provider: str) -> str:
    """Return who is installed here and can use GPUs; empty: nobody."""
    if find_spec('onnxruntime'):
        import onnxruntime
        if provider in onnxruntime.get_available_providers():
            return 'onnxruntime'
    return 'torch' if provider == CUDA and _torch_has_cuda() else ''


def _torch_has_cuda() -> bool:
    if not find_spec('torch'):
        return False
    import torch
    return torch.cuda.is_available()

"""
ONNX graphs as torch modules, so that every exported network runs wherever torch does.

What no input changes is computed once on construction. Sizes stay on the host: an operation never
waits for the device to tell it a shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.onnx_file import constant_value, Graph, Node
import torch
from torch import nn
from torch.nn import functional

_DTYPES = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64,
           9: torch.bool, 10: torch.float16, 11: torch.float64}
# whose constants of one element are plain numbers, which a device need not read
_ARITHMETIC = {'Add', 'Clip', 'Div', 'Mul', 'Pad', 'Resize', 'Sub'}

Constant = npt.NDArray[Any]
Given = torch.Tensor | Constant | None


class OnnxModule(nn.Module):
    """
    A graph of one image: from (N, ...) to a tuple of tensors in the order of its outputs.

    Files are mostly for one image. The first axis is nevertheless left free where that has a
    meaning; :attr:`takes_batches` says whether it has.

    :raises ValueError: If the graph has operations that are not known here.
    """

    takes_batches: bool

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        unknown = sorted({node.kind for node in graph.nodes} - _OPERATIONS.keys() - {'Constant'})
        if unknown:
            raise ValueError(
                f'torch runs no ONNX file with {", ".join(unknown)} here; install '
                'onnxruntime-gpu, or run it on the CPU')
        if len(graph.inputs) != 1:
            raise ValueError(f'the network has {len(graph.inputs)} inputs, expected one image')
        self.outputs = graph.outputs
        image, = graph.inputs
        self._input, self._dtype = image.name, _torch_dtype(image.dtype)
        constants = dict(graph.constants)
        self._nodes: list[Node] = []
        for node in graph.nodes:
            if not _fold(node, constants):
                self._nodes.append(node)
        self._on_host, self._on_device = self._kept(constants)
        self.takes_batches = self._answers_each(image.shape)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute every output."""
        values: dict[str, Given] = {
            '': None, self._input: images.to(self._dtype), **self._on_host}
        values |= {name: getattr(self, own) for name, own in self._on_device.items()}
        for node in self._nodes:
            found = _OPERATIONS[node.kind](node, [values[name] for name in node.inputs])
            answers = found if isinstance(found, tuple) else (found,)
            values |= dict(zip(node.outputs, answers, strict=False))
        return tuple(_tensor(values[name]) for name in self.outputs)

    def _kept(self, constants: dict[str, Constant]) -> tuple[dict[str, Constant], dict[str, str]]:
        """Keep the constants that are still used: numbers and sizes as they are, weights here."""
        used = {name for node in self._nodes for name in node.inputs} | {*self.outputs}
        on_host: dict[str, Constant] = {}
        on_device: dict[str, str] = {}
        for name in sorted(used & constants.keys()):
            value = constants[name]
            readers = {node.kind for node in self._nodes if name in node.inputs}
            is_number = readers <= {'Resize'} or (value.size == 1 and readers <= _ARITHMETIC)
            if value.dtype.kind != 'f' or is_number:
                on_host[name] = value
                continue
            on_device[name] = f'constant_{len(on_device)}'
            self.register_buffer(on_device[name], torch.from_numpy(value.copy()))
        return on_host, on_device

    def _answers_each(self, shape: tuple[int, ...]) -> bool:
        """Return whether two images give two answers, by their shapes alone."""
        sides = [side if side > 0 else 64 for side in shape[1:]]
        try:
            answers = self.on_meta(torch.empty(2, *sides, device='meta'))
        except (IndexError, RuntimeError, TypeError, ValueError):
            return False
        return all(answer.ndim > 0 and answer.shape[0] == 2 for answer in answers)

    def on_meta(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the answers to images without numbers in them: shapes and types alone."""
        weights = {name: buffer.to('meta') for name, buffer in self.named_buffers()}
        answers: tuple[torch.Tensor, ...] = torch.func.functional_call(self, weights, images)
        return answers


def _fold(node: Node, constants: dict[str, Constant]) -> bool:
    """Compute a node whose inputs are all constants."""
    value = constant_value(node)
    if value is not None:
        constants[node.outputs[0]] = value
        return True
    names = [name for name in node.inputs if name]
    if not names or any(name not in constants for name in names):
        return False
    given: list[Given] = []
    for name in node.inputs:
        # sizes are read as numbers, the first input is what is computed with
        is_operand = name and (not given or constants[name].dtype.kind == 'f')
        given.append(torch.from_numpy(np.array(constants[name])) if is_operand
                     else constants.get(name))
    found = _OPERATIONS[node.kind](node, given)
    answers = found if isinstance(found, tuple) else (found,)
    for name, answer in zip(node.outputs, answers, strict=False):
        constants[name] = _tensor(answer).numpy()
    return True


def _torch_dtype(dtype: Any) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype


def _tensor(value: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


def _operand(value: Given) -> Any:
    """Return what arithmetic takes: a tensor, or a plain number for a constant of one element."""
    if not isinstance(value, np.ndarray):
        return value
    return value.item() if value.size == 1 else _tensor(value)


def _ints(value: Given) -> list[int]:
    if not isinstance(value, np.ndarray):
        raise ValueError('the network computes a shape from its image, which torch cannot run '
                         'here; export it for one size')
    return [int(n) for n in value.ravel()]


@dataclass(frozen=True)
class _Edges:
    """Zeros around an image: before and after rows and columns."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def of(cls, node: Node) -> '_Edges':
        if node.attributes.get('auto_pad', 'NOTSET') not in ('NOTSET', 'VALID'):
            raise ValueError(f'{node.kind} pads by {node.attributes["auto_pad"]}; export the '
                             'network with explicit padding')
        return cls(*node.attributes.get('pads', (0, 0, 0, 0)))

    def around(self, x: torch.Tensor, value: float = 0.0) -> tuple[torch.Tensor, tuple[int, int]]:
        """Return the image, and what is left for the operation to pad by itself."""
        if (self.top, self.left) == (self.bottom, self.right):
            return x, (self.top, self.left)
        edges = (self.left, self.right, self.top, self.bottom)
        return functional.pad(x, edges, value=value), (0, 0)


def _cast(node: Node, given: Sequence[Any]) -> torch.Tensor:
    number = node.attributes['to']
    if number not in _DTYPES:
        raise ValueError(f'Cast to numbers of type {number} is not supported here')
    return _tensor(given[0]).to(_DTYPES[number])


def _conv(node: Node, given: Sequence[Any]) -> torch.Tensor:
    x, weight, *rest = given
    x, padding = _Edges.of(node).around(x)
    bias = rest[0] if rest else None
    return functional.conv2d(
        x, weight, bias, tuple(node.attributes.get('strides', (1, 1))), padding,
        tuple(node.attributes.get('dilations', (1, 1))), node.attributes.get('group', 1))


def _max_pool(node: Node, given: Sequence[Any]) -> torch.Tensor:
    if len(node.outputs) > 1 or node.attributes.get('ceil_mode', 0):
        raise ValueError('MaxPool with places or rounding up is not supported here')
    kernel = node.attributes['kernel_shape']
    x, padding = _Edges.of(node).around(given[0], -np.inf)
    return functional.max_pool2d(x, kernel, node.attributes.get('strides', (1, 1)), padding)


def _average_pool(node: Node, given: Sequence[Any]) -> torch.Tensor:
    kernel, edges = node.attributes['kernel_shape'], _Edges.of(node)
    if node.attributes.get('ceil_mode', 0) or edges != _Edges(0, 0, 0, 0):
        raise ValueError('AveragePool with padding or rounding up is not supported here')
    return functional.avg_pool2d(given[0], kernel, node.attributes.get('strides', (1, 1)))


def _arg_max(node: Node, given: Sequence[Any]) -> torch.Tensor:
    return torch.argmax(given[0], node.attributes.get('axis', 0),
                        bool(node.attributes.get('keepdims', 1)))


def _pad(node: Node, given: Sequence[Any]) -> torch.Tensor:
    x, counts = given[0], _ints(given[1])
    if node.attributes.get('mode', 'constant') != 'constant' or len(given) > 3:
        raise ValueError('Pad with anything but a constant around all axes is not supported here')
    edges = [n for axis in reversed(range(x.ndim)) for n in (counts[axis], counts[axis + x.ndim])]
    value = 0.0 if len(given) < 3 or given[2] is None else float(_operand(given[2]))
    return functional.pad(x, edges, value=value)


def _clip(node: Node, given: Sequence[Any]) -> torch.Tensor:
    low, high = (*given[1:], None, None)[:2]
    return torch.clamp(given[0], _operand(low), _operand(high))


def _resize(node: Node, given: Sequence[Any]) -> torch.Tensor:
    x, _, scales, sizes = (*given, None, None)[:4]
    mode = node.attributes.get('mode', 'nearest')
    how = node.attributes.get('coordinate_transformation_mode', 'half_pixel')
    known = {'linear': ('half_pixel', 'pytorch_half_pixel'), 'nearest': ('asymmetric',)}
    if x.ndim != 4 or how not in known.get(mode, ()) or (
            mode == 'nearest' and node.attributes.get('nearest_mode') != 'floor'):
        raise ValueError(f'Resize {mode} by {how} is not supported here')
    mode = {'linear': 'bilinear', 'nearest': 'nearest'}[mode]
    if sizes is not None:
        return functional.interpolate(x, _ints(sizes)[2:], mode=mode)
    factors = [float(f) for f in scales.ravel()[2:]]
    return functional.interpolate(x, scale_factor=factors, mode=mode)


def _reshape(node: Node, given: Sequence[Any]) -> torch.Tensor:
    x, shape = given[0], _ints(given[1])
    sides = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    # exported for one image, used for several
    if x.ndim and len(sides) > 1 and sides[0] == 1 and x.shape[0] > 1:
        sides[0] = x.shape[0]
    return torch.reshape(x, sides)


def _axes(node: Node, given: Sequence[Any]) -> list[int]:
    """Return the axes, which newer operations take as an input and older as an attribute."""
    if len(given) > 1 and given[1] is not None:
        return _ints(given[1])
    return list(node.attributes.get('axes', range(given[0].ndim)))


def _reduce(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda node, given: function(
        given[0], _axes(node, given), keepdim=bool(node.attributes.get('keepdims', 1)))


def _slice(node: Node, given: Sequence[Any]) -> torch.Tensor:
    x = given[0]
    starts, ends = _ints(given[1]), _ints(given[2])
    axes = _ints(given[3]) if len(given) > 3 and given[3] is not None else range(len(starts))
    steps = _ints(given[4]) if len(given) > 4 else [1] * len(starts)
    chosen = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise ValueError('Slice backwards is not supported here')
        chosen[axis] = slice(start, end, step)
    return x[tuple(chosen)]


def _split(node: Node, given: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    x, axis = given[0], node.attributes.get('axis', 0)
    if len(given) > 1 and given[1] is not None:
        return torch.split(x, _ints(given[1]), axis)
    return torch.split(x, -(-x.shape[axis] // len(node.outputs)), axis)


def _unsqueeze(node: Node, given: Sequence[Any]) -> torch.Tensor:
    x, axes = given[0], _axes(node, given)
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _gemm(node: Node, given: Sequence[Any]) -> torch.Tensor:
    a, b, *rest = given
    said = node.attributes
    a, b = (m.T if said.get(name, 0) else m for m, name in ((a, 'transA'), (b, 'transB')))
    product = said.get('alpha', 1.0) * (a @ b)
    return product + said.get('beta', 1.0) * _operand(rest[0]) if rest else product


def _batch_norm(node: Node, given: Sequence[Any]) -> torch.Tensor:
    x, scale, offset, mean, variance = given
    return functional.batch_norm(
        x, mean, variance, scale, offset, eps=node.attributes.get('epsilon', 1e-5))


def _hard_sigmoid(node: Node, given: Sequence[Any]) -> torch.Tensor:
    slope = node.attributes.get('alpha', 0.2)
    return torch.clamp(slope * given[0] + node.attributes.get('beta', 0.5), 0.0, 1.0)


_OPERATIONS: dict[str, Callable[[Node, list[Given]], Any]] = {
    'Add': lambda node, given: _operand(given[0]) + _operand(given[1]),
    'ArgMax': _arg_max,
    'AveragePool': _average_pool,
    'BatchNormalization': _batch_norm,
    'Cast': _cast,
    'Clip': _clip,
    'Concat': lambda node, given: torch.cat([_tensor(x) for x in given], node.attributes['axis']),
    'Conv': _conv,
    'Div': lambda node, given: _operand(given[0]) / _operand(given[1]),
    'Exp': lambda node, given: torch.exp(_tensor(given[0])),
    'Flatten': lambda node, given: torch.flatten(_tensor(given[0]), 1),
    'Gemm': _gemm,
    'GlobalAveragePool': lambda node, given: _tensor(given[0]).mean((2, 3), keepdim=True),
    'HardSigmoid': _hard_sigmoid,
    'HardSwish': lambda node, given: functional.hardswish(_tensor(given[0])),
    'Identity': lambda node, given: given[0],
    'MatMul': lambda node, given: _tensor(given[0]) @ _tensor(given[1]),
    'MaxPool': _max_pool,
    'Mul': lambda node, given: _operand(given[0]) * _operand(given[1]),
    'Pad': _pad,
    'ReduceMax': _reduce(torch.amax),
    'ReduceMean': _reduce(torch.mean),
    'ReduceMin': _reduce(torch.amin),
    'ReduceSum': _reduce(torch.sum),
    'Relu': lambda node, given: torch.relu(_tensor(given[0])),
    'Reshape': _reshape,
    'Resize': _resize,
    'Sigmoid': lambda node, given: torch.sigmoid(_tensor(given[0])),
    'Slice': _slice,
    'Softmax': lambda node, given: torch.softmax(
        _tensor(given[0]), node.attributes.get('axis', -1)),
    'Split': _split,
    'Squeeze': lambda node, given: torch.squeeze(_tensor(given[0]), tuple(_axes(node, given))),
    'Sub': lambda node, given: _operand(given[0]) - _operand(given[1]),
    'Transpose': lambda node, given: _tensor(given[0]).permute(node.attributes['perm']),
    'Unsqueeze': _unsqueeze,
}

"""
Check every network on this machine's GPU, beside the CPU, and write down what was seen.

Needs torch, torchvision, NumPy, OpenCV, numba and PyYAML, and neither ROS nor a network::

    python -m perception_nodes.evaluation.gpu_check --out docs/gpu

The exit code is 0 where all checks passed on a GPU, 1 where one failed, and 3 where there is no
GPU: the same code has then run on the CPU, which verifies nothing.
"""

import argparse
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
import sys

_OLDEST_PYTHON = (3, 11)
# what is imported: what pip calls it
_PACKAGES = {'torch': 'torch', 'torchvision': 'torchvision', 'numpy': 'numpy',
             'cv2': 'opencv-python-headless', 'numba': 'numba', 'yaml': 'PyYAML'}


def main(words: Sequence[str] | None = None) -> int:
    """Check, write the record and say what is wrong."""
    arguments = _parser().parse_args(words)
    if sentence := what_is_missing():
        print(sentence, file=sys.stderr)
        return 1
    from perception_nodes.evaluation.gpu_measure import check
    return check(arguments.out, arguments.device, frames=arguments.frames,
                 repeats=arguments.repeats, only=arguments.only)


def what_is_missing(packages: Mapping[str, str] = _PACKAGES) -> str:
    """
    Return what has to be installed first, as a sentence; empty where nothing has.

    :param packages: What pip calls each module that is needed.
    """
    if sys.version_info < _OLDEST_PYTHON:
        ours, oldest = ('.'.join(map(str, v)) for v in (sys.version_info[:2], _OLDEST_PYTHON))
        return f'this is Python {ours}, but {oldest} or newer is needed; take another, as in ' \
               f'python{oldest} -m perception_nodes.evaluation.gpu_check'
    missing = [name for module, name in packages.items() if find_spec(module) is None]
    if not missing:
        return ''
    return f'{sys.executable} has no {", ".join(missing)}; install what is missing: ' \
           f'{sys.executable} -m pip install {" ".join(missing)}'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m perception_nodes.evaluation.gpu_check',
        description='Check every network on the GPU beside the CPU, and write a record.')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR',
                        help='folder for the record, GPU.json')
    parser.add_argument('--device', default='auto',
                        help="'auto', 'cpu', 'cuda:N' or 'meta' (default %(default)s)")
    parser.add_argument('--frames', type=_count, default=24, metavar='N',
                        help='labelled frames for the metrics (default %(default)s)')
    parser.add_argument('--repeats', type=_count, default=50, metavar='N',
                        help='runs behind each time (default %(default)s)')
    parser.add_argument('--only', nargs='*', default=[], metavar='NETWORK',
                        help='some of the networks, which makes no record (default: all)')
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
    return int(text)


if __name__ == '__main__':
    sys.exit(main())

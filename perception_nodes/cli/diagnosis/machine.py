"""The machine, and what nodes ask of it: shared memory, versions, models, devices."""

from collections.abc import Callable, Iterable, Mapping
import importlib.metadata
import os
from pathlib import Path
import platform
import shutil
from typing import Any

from perception_nodes.backends.runtime_choice import choose_runtime
from perception_nodes.cli.diagnosis.snapshot import MachineFacts, NeedFacts, Segment
from perception_nodes.core.manifest import find_model, known_models
from perception_nodes.evaluation.gpu_record import last_verified
from perception_nodes.evaluation.parameter_sets import read_parameter_set

PROFILE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
FRAME_PARAMETERS = ('target_frame', 'gravity_frame', 'map_frame', 'base_frame')
PARAMETERS = (*FRAME_PARAMETERS, 'transform_timeout_ms', 'model', 'manifest', 'device')
_SHM, _LOCKS = Path('/dev/shm'), Path('/proc/locks')
_PREFIX, _PORT = 'fastrtps_', 'fastrtps_port'


def machine_facts() -> MachineFacts:
    """Return what this machine, and the environment of this process, offer."""
    total = free = 0
    if _SHM.is_dir():
        total, _, free = shutil.disk_usage(_SHM)
    profile = os.environ.get(PROFILE, '')
    problem = f'{PROFILE} names {profile}, and there is no such file' \
        if profile and not Path(profile).is_file() else ''
    return MachineFacts(
        versions(), _gpu(), os.environ.get('RMW_IMPLEMENTATION') or 'rmw_fastrtps_cpp', total,
        free, segments(_SHM, _LOCKS), problem)


def versions() -> str:
    """Return the versions that a report of a problem should name, in one line."""
    def of(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return 'not installed'

    rclpy = next((version for name in ('rclpy', 'ros-jazzy-rclpy')
                  if (version := of(name)) != 'not installed'), 'not installed')
    words = [
        f'ROS {os.environ.get("ROS_DISTRO") or "jazzy (wheels)"}', f'rclpy {rclpy}',
        os.environ.get('RMW_IMPLEMENTATION') or 'rmw_fastrtps_cpp (default)',
        f'domain {os.environ.get("ROS_DOMAIN_ID") or 0}',
        f'discovery {os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or "SUBNET (default)"}',
        f'Python {platform.python_version()}',
        *(f'{package} {of(package)}' for package in ('numpy', 'onnxruntime', 'torch')),
        platform.platform(terse=True)]
    return ', '.join(words)


def _gpu() -> str:
    try:
        return last_verified()
    except ValueError as error:
        return str(error)


def segments(folder: Path, locks: Path) -> tuple[Segment, ...]:
    """
    Return the shared memory that Fast DDS participants hold.

    A living one holds a lock on the file NAME_el beside its segment; /proc/locks tells whose.

    :param folder: /dev/shm.
    :param locks: /proc/locks; where it cannot be read nothing is called stale.
    """
    try:
        lines = [line.split() for line in locks.read_text().splitlines()]
        owners = {int(words[5].rpartition(':')[2]): int(words[4]) for words in lines
                  if len(words) > 5 and words[1] == 'FLOCK'}
    except (OSError, ValueError):
        owners = None
    found = []
    for lock in sorted(folder.glob(f'{_PREFIX}*_el')) if folder.is_dir() else ():
        if lock.name.startswith(_PORT):  # queues, which hold no messages
            continue
        try:
            size, inode = Path(str(lock).removesuffix('_el')).stat().st_size, lock.stat().st_ino
        except OSError:  # gone meanwhile
            continue
        pid = None if owners is None else owners.get(inode)
        stale = owners is not None and pid is None
        found.append(Segment(size, process_name(pid or 0), stale))
    return tuple(found)


def process_name(pid: int) -> str:
    """Return how a process was called, and its id; empty where that is not known."""
    try:
        words = Path(f'/proc/{pid}/cmdline').read_text().split('\0')
    except OSError:
        return ''
    scripts = [w for w in words[1:] if w and not w.startswith('-')]
    name = scripts[0] if 'python' in words[0] and scripts else words[0]
    return f'{Path(name).name} ({pid})'


def need_of(node: str, values: Mapping[str, Any]) -> NeedFacts:
    """
    Return what a node needs by its parameters.

    :param values: Those of :data:`PARAMETERS` that it has.
    """
    frames = tuple(dict.fromkeys(str(values[n]) for n in FRAME_PARAMETERS if values.get(n)))
    patience_s = float(values.get('transform_timeout_ms', 100.0)) * 1e-3
    model, manifest, device = (str(values.get(n) or '') for n in ('model', 'manifest', 'device'))
    if not model:
        return NeedFacts(node, frames, patience_s)
    return NeedFacts(
        node, frames, patience_s, model, model_problem(model, manifest), device,
        device_problem(device))


def needs_of_file(path: Path) -> tuple[NeedFacts, ...]:
    """
    Return what the nodes of a parameter file need.

    :raises OSError: If the file cannot be read.
    :raises ValueError: If it is no parameter file, or a value is not allowed.
    """
    return tuple(
        need_of(f'/{node.name}', {**vars(node.params), **vars(node.inputs)})
        for node in read_parameter_set(path).nodes)


def shipped_models() -> tuple[NeedFacts, ...]:
    """Return the models of the shipped manifest whose files are there and are not right."""
    return tuple(
        NeedFacts('the shipped manifest', model=name, model_problem=problem)
        for name, entry in known_models().items()
        if entry.path.is_file() and (problem := _said_by(entry.verified_path)))


def model_problem(model: str, manifest: str) -> str:
    """Return why a model's weights cannot be used; empty where they can."""
    return _said_by(lambda: find_model(model, '', manifest).verified_path())


def _said_by(action: Callable[[], object]) -> str:
    try:
        action()
    except (ImportError, OSError, ValueError) as error:
        return str(error)
    return ''


def device_problem(device: str) -> str:
    """Return why no network can run on a device; empty where one can."""
    if device in ('', 'auto', 'cpu'):
        return ''
    return _said_by(lambda: choose_runtime('onnxruntime', device))


def frames_wanted(needs: Iterable[NeedFacts]) -> dict[str, float]:
    """Return the frames that nodes look up, and the shortest time that one of them waits."""
    wanted: dict[str, float] = {}
    for need in needs:
        for frame in need.frames:
            wanted[frame] = min(wanted.get(frame, need.patience_s), need.patience_s)
    return wanted

"""Trained networks as files that nodes load by name: weights, manifest entry, model card."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
import hashlib
import json
import logging
from pathlib import Path
import platform
import shlex
import sys
from typing import Any
import warnings

import numpy as np
import numpy.typing as npt
from perception_nodes.core.manifest import ModelInput, read_manifest
from perception_nodes.core.whole_file import whole_file
from perception_nodes.evaluation.results import commit
from perception_nodes.training.onnx_graph import simplify
import torch
from torch import nn
import yaml

log = logging.getLogger(__name__)

_OPSET = 17
_MANIFEST = 'manifest.yaml'
_LARGEST_DROP = 0.01  # of a score, by 16-bit weights and the way through the nodes' code
_LARGEST_DIFFERENCE = 1e-3  # of what a network answers, before its weights lose bits


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a manifest says of a network that was trained here."""

    name: str
    task: str
    backend: str
    architecture: str
    head: str | None
    domain: str
    licence: str
    source: str  # data and weights it comes from
    class_names: Mapping[int, str]
    input: ModelInput | None  # None: it sees no pictures, and has no classes
    seed: int
    quality: Sequence[Mapping[str, Any]]  # dataset, metric, value, command
    hours_cpu: float  # CPU time of the training
    notes: Sequence[str] = field(default_factory=tuple)  # sentences for the model card


def export_onnx(network: nn.Module, size: tuple[int, int], output: str, file: Path) -> None:
    """
    Write a network for one image as ONNX, batch norms and padding folded, weights in 16 bits.

    :param size: Width and height of its input, pixels.
    :param output: Name of its output.
    :raises ValueError: If the file does not compute what the network does.
    """
    image = torch.zeros(1, 3, size[1], size[0])
    with whole_file(file) as draft:
        with warnings.catch_warnings():  # that sizes become constants is what is wanted
            warnings.simplefilter('ignore')
            torch.onnx.export(
                network.eval().cpu(), (image,), str(draft), dynamo=False, opset_version=_OPSET,
                input_names=['image'], output_names=[output])
        _check_answers(network, draft, size)
        simplify(draft)


def onnx_difference(network: nn.Module, file: Path, images: npt.NDArray[np.float32]) -> float:
    """
    Return the largest difference between a network and its file, in units of its output.

    :param images: (N, 3, H, W) float32 as the network takes them.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    worst = 0.0
    with torch.inference_mode():
        for image in images:
            ours = network(torch.from_numpy(image[None])).numpy()
            theirs = np.asarray(session.run(None, {name: image[None]})[0])
            worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst


def export_safetensors(network: nn.Module, file: Path) -> None:
    """Write the tensors of a network whose architecture the backend ``own`` knows."""
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous()
             for name, value in network.state_dict().items()}
    with whole_file(file) as draft:
        draft.write_bytes(save(state))  # save_file lets nobody but its owner read the file


def _check_answers(network: nn.Module, file: Path, size: tuple[int, int]) -> None:
    """Refuse a file, its weights still in 32 bits, that answers noise otherwise."""
    noise = np.random.default_rng(0).standard_normal((1, 3, size[1], size[0]), np.float32)
    with torch.inference_mode():
        scale = float(network(torch.from_numpy(noise)).abs().max())
    difference = onnx_difference(network, file, noise)
    if not difference <= _LARGEST_DIFFERENCE * scale:
        raise ValueError(
            f'the ONNX file answers {difference:.2g} otherwise than the network, whose answers '
            f'reach {scale:.2g}; it must not be used: report this as a bug')


def check_scores(trained: Mapping[str, float], exported: Mapping[str, float],
                 names: Sequence[str]) -> None:
    """
    Compare what was trained with what the written file reaches the way nodes use it.

    :param names: Metrics to compare; more is better.
    :raises ValueError: If the file is worse.
    """
    for name in names:
        log.info('%s: trained %.4f, exported %.4f', name, trained[name], exported[name])
        if exported[name] < trained[name] - _LARGEST_DROP:
            raise ValueError(
                f'the exported file reaches {name} {exported[name]:.3f}, the network '
                f'{trained[name]:.3f}; it must not be used: report this as a bug')


def check_name(folder: Path, name: str, class_names: Mapping[int, str]) -> None:
    """
    Refuse to replace a model by one that means other classes.

    :param folder: Where the model is going to be published.
    :raises ValueError: If the manifest there has such a model, or is broken.
    """
    manifest = folder / _MANIFEST
    found = read_manifest(manifest).get(name) if manifest.is_file() else None
    if found is not None and dict(found.class_names) != dict(class_names):
        raise ValueError(
            f"{manifest} has a model '{name}' whose classes are "
            f'{", ".join(found.class_names.values())}, but the data set has '
            f'{", ".join(class_names.values())}; give the new one another name')


def domain_of(dataset: Path) -> str:
    """
    Return which camera took the pictures of a data set: ``simulation`` or ``real``.

    :param dataset: Its folder, or that of a split; of the simulator's, ``dataset.json`` tells.
    """
    for folder in (dataset, dataset.resolve().parent):
        with suppress(OSError, ValueError):
            said = json.loads((folder / 'dataset.json').read_bytes())
            if isinstance(said, dict) and 'plan' in said:
                return 'simulation'
    return 'real'


def publish(trained: Trained, file: Path) -> None:
    """
    Name a weights file in the ``manifest.yaml`` beside it, and write its model card.

    An entry of the same name is replaced, others stay. The manifest is checked before it is
    there.
    """
    entry = _entry(trained, file)
    manifest = file.parent / _MANIFEST
    entries = [entry]
    if manifest.is_file():
        read_manifest(manifest)
        found = yaml.safe_load(manifest.read_text(encoding='utf-8'))['models']
        entries = [*(other for other in found if other['name'] != trained.name), entry]
    with whole_file(manifest) as draft:
        draft.write_text(yaml.safe_dump({'models': entries}, sort_keys=False, width=99),
                         encoding='utf-8')
        read_manifest(draft)
    file.with_suffix('.md').write_text(_card(trained, entry), encoding='utf-8')
    log.info("model '%s' is in %s", trained.name, manifest)


def command_line() -> str:
    """Return what the user typed, with the program's name alone in front."""
    program = Path(sys.argv[0]).name
    return shlex.join(['perception' if program == '__main__.py' else program, *sys.argv[1:]])


def _entry(trained: Trained, file: Path) -> dict[str, Any]:
    image = trained.input
    said: dict[str, Any] = {
        'name': trained.name, 'task': trained.task, 'backend': trained.backend,
        'architecture': trained.architecture, 'head': trained.head, 'domain': trained.domain,
        'file': file.name, 'sha256': hashlib.sha256(file.read_bytes()).hexdigest(),
        'size_bytes': file.stat().st_size, 'licence': trained.licence, 'source': trained.source,
        'training': {'command': command_line(), 'seed': trained.seed, 'commit': commit(),
                     'hardware': f'{_processor()}, {trained.hours_cpu:.2f} CPU hours'},
        'quality': [dict(row) for row in trained.quality]}
    if image is not None:
        said |= {
            'input': {'width': image.width, 'height': image.height, 'layout': image.layout,
                      'color': image.color, 'resize': image.resize, 'mean': list(image.mean),
                      'std': list(image.std)},
            'classes': {int(i): name for i, name in trained.class_names.items()}}
    if trained.head is None:
        del said['head']
    return said


def _card(trained: Trained, entry: Mapping[str, Any]) -> str:
    rows = '\n'.join(f'| {row["dataset"]} | {row["metric"]} | {row["value"]} |'
                     for row in trained.quality)
    facts = ''.join(f'- {note}\n' for note in trained.notes)
    world = 'simulated' if trained.domain == 'simulation' else 'real'
    sees = f'for pictures of a {world} camera, '
    if trained.input is None:
        sees = f'trained in a {world} world, '
    else:
        facts = f'- Classes: {", ".join(trained.class_names.values())}\n{facts}'
    return (f'# {trained.name}\n\n'
            f'A network for {trained.task} ({trained.architecture}), {sees}'
            f'{entry["size_bytes"]} bytes, licence {trained.licence}.\n\n'
            f'- Comes from: {trained.source}\n'
            f'- Trained by: `{entry["training"]["command"]}` (seed {trained.seed}, commit '
            f'{entry["training"]["commit"]}, {entry["training"]["hardware"]})\n'
            f'{facts}\n'
            f'| data set | metric | value |\n|---|---|---|\n{rows}\n')


def _processor() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'{platform.machine()} CPU'

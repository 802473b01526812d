"""models/manifest.yaml: which weights exist, what each needs, where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
import difflib
import hashlib
import os
from pathlib import Path, PurePosixPath
import re
import shlex
from typing import Any
from urllib.parse import unquote, urlsplit

from perception_nodes.core.share import share_file
import yaml

TASKS = ('detection', 'instances', 'segmentation', 'classification', 'grasping', 'navigation')
DOMAINS = ('real', 'simulation')
_WITHOUT_PICTURES = ('grasping', 'navigation')  # entries have neither input nor classes
MODEL_FOLDER_VARIABLE = 'PERCEPTION_NODES_MODELS'

_INPUT_CHOICES = {
    'layout': ('NCHW', 'NHWC'),
    'color': ('rgb', 'bgr'),
    'resize': ('stretch', 'letterbox', 'letterbox_top_left', 'center_crop'),
}


@dataclass(frozen=True)
class ModelInput:
    """What a network expects of its image; ``mean`` and ``std`` are in pixel values 0-255."""

    width: int
    height: int
    layout: str = 'NCHW'  # or NHWC
    color: str = 'rgb'  # or bgr
    resize: str = 'stretch'  # letterbox: centred; letterbox_top_left: as YOLOX does it
    crop_fraction: float = 1.0  # of the side that limits a center_crop, how much is kept
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name, choices in _INPUT_CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"input {name} is '{getattr(self, name)}'; choose one of {', '.join(choices)}")
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f'input size is {self.width}x{self.height}; both must be positive')
        if not 0.0 < self.crop_fraction <= 1.0:
            raise ValueError(
                f'input crop_fraction is {self.crop_fraction}; it must be above 0 and at most 1')
        if len(self.mean) != 3 or len(self.std) != 3 or not all(self.std):
            raise ValueError(
                f'input mean is {self.mean}, std is {self.std}; each must be three numbers, '
                'one per colour, and no std may be 0')


@dataclass(frozen=True)
class ModelEntry:
    """One model of a manifest."""

    name: str
    task: str
    backend: str
    architecture: str
    head: str | None
    domain: str  # real or simulation: which camera it was trained for
    path: Path  # where the weights are, or will be once they are fetched
    url: str  # where `perception fetch-model` gets them; empty: nowhere
    sha256: str  # hex digits; a prefix of at least 8 where that is all that is published
    size_bytes: int | None
    licence: str
    source: str
    class_names: Mapping[int, str]  # empty where pictures are not what the model sees
    input: ModelInput
    quality: tuple[Mapping[str, Any], ...]  # dataset, metric, value, command
    training: Mapping[str, Any]  # command, seed, commit, hardware; empty: trained by others
    converted_by: str  # command that made the file from its source; empty: not converted
    manifest: Path

    def check_file(self) -> None:
        """
        Check that the weights are there.

        :raises FileNotFoundError: With the command that gets them.
        """
        if not self.path.is_file():
            raise FileNotFoundError(
                f"the weights of model '{self.name}' are missing: there is no file {self.path}"
                + (f'; get them with: {self.fetch_command()}' if self.url else ''))

    def verified_path(self) -> Path:
        """
        Return the weights' path after checking that they are what the manifest says.

        :raises FileNotFoundError: If the file is not there.
        :raises ValueError: If its sha256 is another one.
        """
        self.check_file()
        found = file_sha256(self.path)
        if not found.startswith(self.sha256):
            way = f'delete it and run: {self.fetch_command()}' if self.url else 'restore it'
            raise ValueError(
                f"the weights of model '{self.name}' are not the ones of the manifest: "
                f'{self.path} has sha256 {found[:12]}..., expected {self.sha256[:12]}...; '
                f'{way}, or correct the manifest if the change was meant')
        return self.path

    def fetch_command(self) -> str:
        """Return the command line that downloads the weights."""
        words = ['perception', 'fetch-model', self.name]
        if self.manifest != share_file('models/manifest.yaml'):
            words += ['--manifest', str(self.manifest)]
        return shlex.join(words)

    def with_input_size(self, size: tuple[int, ...]) -> 'ModelEntry':
        """
        Return the entry with another network input, where the network allows one.

        :param size: Width and height in pixels, or empty for the model's own.
        """
        if not size:
            return self
        width, height = size
        return replace(self, input=replace(self.input, width=width, height=height))


def file_sha256(path: Path) -> str:
    """Return the hex digits of a file's sha256."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def model_folder() -> Path:
    """Return where fetched weights are kept: $PERCEPTION_NODES_MODELS, or below ~/.cache."""
    chosen = os.environ.get(MODEL_FOLDER_VARIABLE)
    return Path(chosen or '~/.cache/perception_nodes/models').expanduser()


def read_manifest(path: Path) -> dict[str, ModelEntry]:
    """
    Read a manifest.

    :return: Entries by name, in the file's order.
    :raises FileNotFoundError: If there is no such file.
    :raises ValueError: If it is not a manifest, naming the file, the entry and the field.
    """
    if not path.is_file():
        raise FileNotFoundError(f'there is no model manifest {path}')
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} is not YAML: {error}') from error
    if not isinstance(content, dict) or not isinstance(content.get('models'), list):
        raise ValueError(f"{path} is no model manifest: it needs a list 'models:' at the top")
    entries: dict[str, ModelEntry] = {}
    for raw in content['models']:
        try:
            entry = _entry(raw, path)
            if entry.name in entries:
                raise ValueError('there are two of this name')
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            name = raw.get('name', '?') if isinstance(raw, dict) else raw
            what = f'has no field {error}' if isinstance(error, KeyError) else f'is wrong: {error}'
            raise ValueError(f"{path}: model '{name}' {what}") from error
        entries[entry.name] = entry
    return entries


def known_models(manifest: str = '') -> dict[str, ModelEntry]:
    """
    Return the models of the shipped manifest, and over them those of the user's own.

    :param manifest: Path of the user's manifest.yaml, or empty.
    :raises FileNotFoundError: If the user's manifest does not exist.
    """
    entries = read_manifest(share_file('models/manifest.yaml'))
    if manifest:
        entries |= read_manifest(Path(manifest).expanduser())
    return entries


def find_model(name: str, task: str = '', manifest: str = '') -> ModelEntry:
    """
    Look a model up in the user's manifest, if one is named, and in the shipped one.

    :param name: Name of the entry.
    :param task: What it has to do, one of :data:`TASKS`; empty allows any. Models of instances
        find boxes as well, so they do detection.
    :param manifest: Path of the user's own manifest.yaml, or empty.
    :raises FileNotFoundError: If the user's manifest does not exist.
    :raises ValueError: If no entry has that name and task, listing those there are.
    """
    entries = known_models(manifest)
    entry = entries.get(name)
    suiting = {'': TASKS, 'detection': ('detection', 'instances')}.get(task, (task,))
    if entry is not None and entry.task in suiting:
        return entry
    if entry is not None:
        raise ValueError(f"model '{name}' does {entry.task}; a model for {task} is needed here")
    known = [e.name for e in entries.values() if e.task in suiting]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f'there are: {", ".join(known) or "none"}'
    kind = f'{task} model' if task else 'model'
    where = 'the manifest' if manifest else "the shipped manifest, and no 'manifest' is named"
    raise ValueError(f"there is no {kind} '{name}' in {where}; {hint}")


def camera_domain(declared: str, use_sim_time: bool) -> str:
    """
    Return whether the pictures come from a real camera or from a simulated one.

    A simulation is told by its clock. A recording of a real camera that is replayed under
    ``/clock`` looks the same, so whoever replays one declares the domain.

    :param declared: ``real``, ``simulation`` or ``auto``.
    :param use_sim_time: Whether time comes from ``/clock``.
    """
    if declared != 'auto':
        return declared
    return 'simulation' if use_sim_time else 'real'


def check_domain(
    entry: ModelEntry, camera: str, allow_mismatch: bool = False, manifest: str = ''
) -> None:
    """
    Refuse weights that were trained on rendered pictures for a real camera.

    Weights trained on photos are accepted everywhere.

    :param camera: ``real`` or ``simulation``; see :func:`camera_domain`.
    :param allow_mismatch: Whether the user has decided otherwise.
    :param manifest: The user's manifest, where the alternatives are looked for as well.
    :raises ValueError: Naming the models to use instead and the commands that fetch them.
    """
    if camera == entry.domain or entry.domain == 'real' or allow_mismatch:
        return
    others = [e for e in known_models(manifest).values()
              if e.task == entry.task and e.domain == 'real']
    ready = [f"'{e.name}'" for e in others if e.path.is_file()]
    to_fetch = [e.fetch_command() for e in others if e.url and not e.path.is_file()]
    ways = [f'use {" or ".join(ready)}'] if ready else []
    ways += [f'fetch one with: {to_fetch[0]}'] if to_fetch else []
    ways += ['set allow_domain_mismatch to true to use it all the same',
             'set camera_domain to simulation if the camera is simulated']
    raise ValueError(
        f"model '{entry.name}' was trained in simulation only and is not trusted on a real "
        f'camera: {"; ".join(ways)}')


def _entry(raw: Mapping[str, Any], manifest: Path) -> ModelEntry:
    for name, choices in (('task', TASKS), ('domain', DOMAINS)):
        if raw[name] not in choices:
            raise ValueError(f"{name} is '{raw[name]}'; choose one of {', '.join(choices)}")
    url = str(raw.get('url') or '')
    sees_pictures = raw['task'] not in _WITHOUT_PICTURES
    image = dict(raw['input'] if sees_pictures else {'width': 1, 'height': 1})
    for name in ('mean', 'std'):
        if name in image:
            image[name] = tuple(float(x) for x in image[name])
    size_bytes = raw.get('size_bytes')
    return ModelEntry(
        name=str(raw['name']), task=raw['task'], backend=raw['backend'],
        architecture=raw['architecture'], head=raw.get('head'), domain=raw['domain'],
        path=_weights_path(str(raw.get('file') or ''), url, manifest.parent), url=url,
        sha256=_checked_sha256(str(raw['sha256']), url),
        size_bytes=None if size_bytes is None else int(size_bytes),
        licence=raw['licence'], source=str(raw.get('source', '')),
        class_names=_class_names(raw['classes'], manifest.parent) if sees_pictures else {},
        input=ModelInput(**image),
        quality=tuple(raw.get('quality') or ()), training=raw.get('training') or {},
        converted_by=str(raw.get('converted_by', '')), manifest=manifest)


def _weights_path(file: str, url: str, folder: Path) -> Path:
    """Return the file beside the manifest if it is there, else the one in the user's folder."""
    if url and urlsplit(url).scheme not in ('http', 'https'):
        raise ValueError(f"url is '{url}'; it must begin with https:// or http://")
    name = file or unquote(PurePosixPath(urlsplit(url).path).name)
    if not name or name in ('.', '..') or (not file and '/' in name):
        raise ValueError('it needs a file, or a url that ends with the name of one')
    beside, fetched = folder / name, model_folder() / Path(name).name
    if beside.is_file() or not (url or fetched.is_file()):
        return beside
    return fetched


def _checked_sha256(text: str, url: str) -> str:
    digits = text.lower()
    if not re.fullmatch('[0-9a-f]{8,64}', digits):
        raise ValueError(f"sha256 is '{text}'; it must be 64 hex digits")
    # a prefix is what some publishers put into the file's name; https says who they are
    if len(digits) < 64 and urlsplit(url).scheme != 'https':
        raise ValueError(
            f"sha256 '{text}' has {len(digits)} hex digits; it must have all 64, "
            'except for a file that is fetched by https')
    return digits


def _class_names(raw: Mapping[Any, Any] | str, folder: Path) -> dict[int, str]:
    """Return names by id from the manifest, or from a file with one name per line, from id 0."""
    if isinstance(raw, str):
        beside = folder / raw
        path = beside if beside.is_file() else share_file(f'models/{raw}')
        lines = path.read_text(encoding='utf-8').splitlines()
        raw = {i: line for i, line in enumerate(lines) if line}
    names = {int(i): str(name) for i, name in raw.items()}
    if not names or min(names) < 0:
        raise ValueError(
            'classes must be {id: name} with at least one id, none below 0, or the name of a '
            'file beside the manifest, or of a shipped one, with one name per line')
    return names

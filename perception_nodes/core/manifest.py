"""models/manifest.yaml: which weights exist, what each needs, where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass
import difflib
import hashlib
from pathlib import Path
from typing import Any

from perception_nodes.core.share import share_file
import yaml

TASKS = ('detection', 'instances', 'segmentation', 'classification', 'grasping', 'navigation')


@dataclass(frozen=True)
class ModelInput:
    """What a network expects of its image; ``mean`` and ``std`` are in pixel values 0-255."""

    width: int
    height: int
    layout: str = 'NCHW'  # or NHWC
    color: str = 'rgb'  # or bgr
    resize: str = 'stretch'  # or letterbox
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        allowed = {'layout': ('NCHW', 'NHWC'), 'color': ('rgb', 'bgr'),
                   'resize': ('stretch', 'letterbox')}
        for name, choices in allowed.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"input {name} is '{getattr(self, name)}'; choose one of {', '.join(choices)}")
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f'input size is {self.width}x{self.height}; both must be positive')


@dataclass(frozen=True)
class ModelEntry:
    """One model of a manifest."""

    name: str
    task: str
    backend: str
    architecture: str
    head: str | None
    domain: str  # real or simulation: which camera it was trained for
    path: Path
    sha256: str
    licence: str
    class_names: Mapping[int, str]
    input: ModelInput

    def verified_path(self) -> Path:
        """
        Return the weights' path after checking that they are what the manifest says.

        :raises FileNotFoundError: If the file is not there.
        :raises ValueError: If its sha256 is another one.
        """
        if not self.path.is_file():
            raise FileNotFoundError(
                f"the weights of model '{self.name}' are missing: there is no file {self.path}")
        with self.path.open('rb') as file:
            found = hashlib.file_digest(file, 'sha256').hexdigest()
        if found != self.sha256:
            raise ValueError(
                f"the weights of model '{self.name}' are not the ones of the manifest: "
                f'{self.path} has sha256 {found[:12]}..., expected {self.sha256[:12]}...; '
                'restore the file, or correct the manifest if the change was meant')
        return self.path


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
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is not YAML: {error}') from error
    if not isinstance(content, dict) or not isinstance(content.get('models'), list):
        raise ValueError(f"{path} is no model manifest: it needs a list 'models:' at the top")
    entries = {}
    for raw in content['models']:
        try:
            entry = _entry(raw, path.parent)
        except (KeyError, TypeError, ValueError) as error:
            name = raw.get('name', '?') if isinstance(raw, dict) else raw
            what = f'has no field {error}' if isinstance(error, KeyError) else f'is wrong: {error}'
            raise ValueError(f"{path}: model '{name}' {what}") from error
        entries[entry.name] = entry
    return entries


def find_model(name: str, task: str, manifest: str = '') -> ModelEntry:
    """
    Look a model up in the user's manifest, if one is named, then in the shipped one.

    :param name: Name of the entry.
    :param task: What it has to do, one of :data:`TASKS`.
    :param manifest: Path of the user's own manifest.yaml, or empty.
    :raises FileNotFoundError: If the user's manifest does not exist.
    :raises ValueError: If no entry has that name and task, listing those there are.
    """
    entries = read_manifest(share_file('models/manifest.yaml'))
    if manifest:
        entries |= read_manifest(Path(manifest).expanduser())
    entry = entries.get(name)
    if entry is not None and entry.task == task:
        return entry
    if entry is not None:
        raise ValueError(f"model '{name}' does {entry.task}; a {task} model is needed here")
    known = [e.name for e in entries.values() if e.task == task]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f'there are: {", ".join(known) or "none"}'
    raise ValueError(f"there is no {task} model '{name}' in the manifest; {hint}")


def _entry(raw: Mapping[str, Any], folder: Path) -> ModelEntry:
    if raw['task'] not in TASKS:
        raise ValueError(f"task is '{raw['task']}'; choose one of {', '.join(TASKS)}")
    size = dict(raw['input'])
    for name in ('mean', 'std'):
        if name in size:
            size[name] = tuple(float(x) for x in size[name])
    return ModelEntry(
        name=str(raw['name']), task=raw['task'], backend=raw['backend'],
        architecture=raw['architecture'], head=raw.get('head'), domain=raw['domain'],
        path=folder / raw['file'], sha256=raw['sha256'], licence=raw['licence'],
        class_names={int(i): str(n) for i, n in raw['classes'].items()},
        input=ModelInput(**size))

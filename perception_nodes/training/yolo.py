"""
Train a YOLO with ultralytics' own trainer, which is AGPL-3.0 and optional.

Everything that it would fetch, install or report is switched off: it gets a data file of ours
that names existing pictures only, begins with random weights, and draws no plots, for which it
would fetch a font.
"""

from collections.abc import Mapping
from pathlib import Path
import shutil

from perception_nodes.backends.ultralytics_backend import import_tasks
from perception_nodes.core.whole_file import whole_file
from perception_nodes.evaluation.datasets import DetectionDataset
import yaml

_REPORTING = ('clearml', 'comet', 'dvc', 'hub', 'mlflow', 'neptune', 'platform', 'raytune', 'sync',
              'wandb')


def train_yolo(
    train: DetectionDataset, val: DetectionDataset, model: str, out: Path, file: Path,
    settings: Mapping[str, object],
) -> None:
    """
    Train and leave the best checkpoint in ``file``.

    :param model: Name or path of ultralytics' description of a network, such as yolo11n.yaml.
    :param out: Folder for what the trainer writes.
    :param settings: Of ultralytics: epochs, imgsz, batch, seed, device, patience.
    :raises ValueError: If ``model`` is no description.
    """
    if not model.endswith(('.yaml', '.yml')):
        raise ValueError(
            f"--model is '{model}'; it must be a description such as yolo11n.yaml: checkpoints "
            'are not opened here, because ultralytics would run what they say')
    import_tasks()
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.utils import SETTINGS

    SETTINGS.update({name: False for name in _REPORTING if name in SETTINGS})
    trainer = DetectionTrainer(overrides={
        **settings, 'model': model, 'data': str(_data_file(train, val, out)), 'project': str(out),
        'name': 'ultralytics', 'exist_ok': True, 'plots': False, 'amp': False, 'workers': 0,
        'pretrained': False, 'verbose': False})
    trainer.train()
    with whole_file(file) as draft:
        shutil.copyfile(trainer.best, draft)


def _data_file(train: DetectionDataset, val: DetectionDataset, out: Path) -> Path:
    """Write what the trainer is to read: absolute paths, and no command to fetch anything."""
    out.mkdir(parents=True, exist_ok=True)
    lists = {}
    for split, dataset in (('train', train), ('val', val)):
        lists[split] = out / f'{split}.txt'
        lists[split].write_text(''.join(f'{image.path.resolve()}\n' for image in dataset.images))
    file = out / 'data.yaml'
    file.write_text(yaml.safe_dump({
        'train': str(lists['train']), 'val': str(lists['val']),
        'names': dict(train.class_names)}))
    return file

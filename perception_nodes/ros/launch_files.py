"""What the launch files share: the nodes and their wiring, and what they make of arguments."""

from collections.abc import Iterable
import difflib
from pathlib import Path
from typing import Any

from perception_nodes.core.share import share_file, share_folder
import yaml

NODES = ('detection', 'segmentation', 'obstacle_map', 'classification', 'grasp', 'counting',
         'description', 'anonymisation', 'track', 'navigation')
BETWEEN_NODES = (('detections', 'detection/detections'),  # boxes to classify, or to count
                 ('detections_3d', 'detection/detections_3d'),
                 ('counting:label_info', 'detection/label_info'),
                 ('description:label_info', 'detection/label_info'),
                 ('mask', 'segmentation/mask'),  # what the obstacles of the map are
                 ('label_info', 'segmentation/label_info'))


def camera_topics(camera: str) -> dict[str, str]:
    """
    Return the topics of a camera: ``image``, ``camera_info`` and mostly ``depth``.

    :param camera: A driver's namespace such as ``/camera``, or the name of a preset.
    :raises ValueError: If it is neither.
    """
    if camera.startswith('/'):
        camera = camera.rstrip('/')
        return {'image': f'{camera}/color/image_raw',
                'depth': f'{camera}/aligned_depth_to_color/image_raw',
                'camera_info': f'{camera}/color/camera_info'}
    presets = camera_presets()
    if camera not in presets:
        raise ValueError(f'camera:={camera} is neither a namespace such as /camera nor one of '
                         f'{", ".join(presets)}')
    preset = yaml.safe_load(share_file(f'config/cameras/{camera}.yaml').read_text())
    return {name: preset[name] for name in ('image', 'depth', 'camera_info') if name in preset}


def camera_presets() -> list[str]:
    """Return the names of the cameras that are known."""
    return sorted(path.stem for path in (share_folder() / 'config' / 'cameras').glob('*.yaml'))


def parameter_files(shipped: Iterable[str], params_file: str) -> list[str]:
    """
    Return the shipped parameter files, and the user's on top of them.

    :param shipped: Names in ``config/``.
    :param params_file: Path of the user's file; empty if there is none.
    :raises ValueError: If it does not exist: launch would start the nodes without it.
    """
    if params_file and not Path(params_file).is_file():
        raise ValueError(f'params_file:={params_file}: there is no such file')
    files = [str(share_file(f'config/{name}.yaml')) for name in shipped]
    return [*files, params_file] if params_file else files


def warn_of_misspelled(context: Any, description: Any) -> None:
    """
    Log a sentence for each argument that launch passes over though it is nearly a known one.

    :param context: The ``LaunchContext`` of the launch file, with the arguments given.
    :param description: Its ``LaunchDescription``, which declares those there are.
    """
    from launch.logging import get_logger  # this module is read without launch, too
    declared = [argument.name for argument in description.get_launch_arguments()]
    for sentence in misspelled(context.launch_configurations, declared):
        get_logger('perception_nodes').warning(sentence)


def misspelled(given: Iterable[str], declared: Iterable[str]) -> list[str]:
    """Return a sentence for each argument that is nearly one of the ``declared`` ones."""
    known = sorted(declared)
    unknown = sorted(set(given) - set(known))
    close = ((name, difflib.get_close_matches(name, known, n=1, cutoff=0.8)) for name in unknown)
    return [f"there is no argument '{name}'; did you mean '{names[0]}'?"
            for name, names in close if names]

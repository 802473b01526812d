"""Camera calibration files as ROS tools write them (camera_calibration, camera_info_manager)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from perception_nodes.core.types import CameraIntrinsics
import yaml

# how many coefficients each model of sensor_msgs/CameraInfo has
_COEFFICIENTS = {'plumb_bob': 5, 'rational_polynomial': 8, 'equidistant': 4}


@dataclass(frozen=True)
class Calibration:
    """A calibrated camera: everything ``sensor_msgs/CameraInfo`` says, for one image size."""

    intrinsics: CameraIntrinsics
    distortion_model: str
    rectification: tuple[float, ...]  # (3, 3) row by row
    projection: tuple[float, ...]  # (3, 4) row by row


def load_calibration(path: Path) -> Calibration:
    """
    Read a calibration YAML.

    :raises FileNotFoundError: If there is no such file.
    :raises ValueError: If it is no calibration, naming what is missing or of the wrong size.
    """
    if not path.is_file():
        raise FileNotFoundError(f'calibration file {path} does not exist')
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'calibration file {path} is no YAML: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'calibration file {path} holds no calibration')
    try:
        return _calibration(content)
    except KeyError as error:
        raise ValueError(
            f'calibration file {path} has no {error}; it needs image_width, image_height, '
            'camera_matrix, distortion_model and distortion_coefficients, as ROS calibration '
            'tools write them') from error
    except (ValueError, TypeError) as error:
        raise ValueError(f'calibration file {path}: {error}') from error


def _calibration(content: dict[str, Any]) -> Calibration:
    k = _matrix(content, 'camera_matrix', 9)
    model = content['distortion_model']
    if model not in _COEFFICIENTS:
        raise ValueError(
            f"distortion_model is '{model}'; it must be one of {', '.join(_COEFFICIENTS)}")
    intrinsics = CameraIntrinsics(
        int(content['image_width']), int(content['image_height']), k[0], k[4], k[2], k[5],
        _matrix(content, 'distortion_coefficients', _COEFFICIENTS[model]))
    # both may be left out for a single camera
    undistorted = np.hstack([intrinsics.matrix, np.zeros((3, 1))])
    content = {
        'rectification_matrix': {'data': np.eye(3).ravel().tolist()},
        'projection_matrix': {'data': undistorted.ravel().tolist()}, **content}
    return Calibration(
        intrinsics, model, _matrix(content, 'rectification_matrix', 9),
        _matrix(content, 'projection_matrix', 12))


def _matrix(content: dict[str, Any], name: str, size: int) -> tuple[float, ...]:
    values = tuple(float(value) for value in content[name]['data'])
    if len(values) != size:
        raise ValueError(f'{name} has {len(values)} numbers; it needs {size}')
    return values

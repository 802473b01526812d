"""Camera calibration files as ROS tools write them."""

from perception_nodes.cli.calibration import load_calibration
import pytest
import yaml

FILE = {
    'image_width': 64, 'image_height': 48, 'camera_name': 'left',
    'camera_matrix': {'rows': 3, 'cols': 3, 'data': [50, 0, 31.5, 0, 51, 23.5, 0, 0, 1]},
    'distortion_model': 'plumb_bob',
    'distortion_coefficients': {'rows': 1, 'cols': 5, 'data': [-0.3, 0.1, 0.001, -0.002, 0]},
    'rectification_matrix': {'rows': 3, 'cols': 3, 'data': [1, 0, 0, 0, 1, 0, 0, 0, 1]},
    'projection_matrix': {
        'rows': 3, 'cols': 4, 'data': [45, 0, 32, 0, 0, 46, 24, 0, 0, 0, 1, 0]},
}


def write(folder, **changed):
    content = {key: value for key, value in {**FILE, **changed}.items() if value is not None}
    path = folder / 'camera.yaml'
    path.write_text(yaml.safe_dump(content))
    return path


def test_everything_is_read(tmp_path):
    found = load_calibration(write(tmp_path))
    known = found.intrinsics
    assert (known.width, known.height, known.fx, known.fy, known.cx, known.cy) == (
        64, 48, 50.0, 51.0, 31.5, 23.5)
    assert known.distortion == (-0.3, 0.1, 0.001, -0.002, 0.0)
    assert found.distortion_model == 'plumb_bob'
    assert found.projection[:3] == (45.0, 0.0, 32.0)


def test_a_single_camera_needs_no_rectification(tmp_path):
    found = load_calibration(
        write(tmp_path, rectification_matrix=None, projection_matrix=None))
    assert found.rectification == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert found.projection == (50, 0, 31.5, 0, 0, 51, 23.5, 0, 0, 0, 1, 0)


@pytest.mark.parametrize(('changed', 'sentence'), [
    ({'camera_matrix': None}, "has no 'camera_matrix'; it needs image_width"),
    ({'camera_matrix': {'data': [1, 2]}}, 'camera_matrix has 2 numbers; it needs 9'),
    ({'camera_matrix': {'data': ['a'] * 9}}, 'could not convert string'),
    ({'distortion_model': 'fancy'}, "distortion_model is 'fancy'; it must be one of plumb_bob"),
    ({'distortion_model': 'equidistant'}, 'distortion_coefficients has 5 numbers; it needs 4'),
    ({'image_width': 0}, 'image of 0x48 pixels'),
])
def test_what_is_wrong_is_said(tmp_path, changed, sentence):
    with pytest.raises(ValueError, match='calibration file .*camera.yaml') as error:
        load_calibration(write(tmp_path, **changed))
    assert sentence in str(error.value)


@pytest.mark.parametrize('text', ['[1, 2', 'just words', b'\xff\xfe\x00'])
def test_no_calibration_at_all(tmp_path, text):
    path = tmp_path / 'camera.yaml'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match='calibration file'):
        load_calibration(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'calibration file .*none\.yaml does not exist'):
        load_calibration(tmp_path / 'none.yaml')

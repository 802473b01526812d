"""
Where the files beside the code are: launch/, config/ and models/.

Every kind of install is served without ROS or environment variables: a checkout (also one
installed with ``pip install -e``), a pip prefix, a colcon workspace, apt's /opt/ros.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def share_folder() -> Path:
    """
    Return the folder that holds package.xml and the shipped files.

    :raises FileNotFoundError: If the package was copied without its share files.
    """
    if (_PACKAGE.parent / 'package.xml').is_file():  # a checkout
        return _PACKAGE.parent
    for prefix in _PACKAGE.parents:
        installed = prefix / 'share' / _PACKAGE.name
        if (installed / 'package.xml').is_file():
            return installed
    raise FileNotFoundError(
        f'no share/{_PACKAGE.name}/package.xml in any folder above {_PACKAGE}: '
        'install the package with pip or colcon instead of copying its modules')


def share_file(relative: str) -> Path:
    """
    Return the path of a shipped file, for example ``models/manifest.yaml``.

    :param relative: Path below the share folder, with forward slashes.
    :raises FileNotFoundError: If there is no such file.
    """
    path = share_folder() / relative
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist: the install is incomplete, or the name is wrong')
    return path

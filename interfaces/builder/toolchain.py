"""What a build needs from the machine, and one clear sentence when something is missing."""

import importlib.util
from pathlib import Path
import shutil
import sys
import sysconfig

GENERATOR_MODULES = (
    'ament_index_python',
    'rosidl_adapter',
    'rosidl_cli',
    'rosidl_generator_c',
    'rosidl_generator_py',
    'rosidl_generator_type_description',
    'rosidl_parser',
    'rosidl_typesupport_c',
    'rosidl_typesupport_fastrtps_c',
    'rosidl_typesupport_introspection_c',
)


class MissingPrerequisiteError(Exception):
    """A sentence that says what the machine lacks and what to do."""


def check():
    """
    Look for the compilers, the Python headers and the rosidl generators.

    :raises MissingPrerequisiteError: names the first one that is missing
    """
    for compiler in ('gcc', 'g++'):
        if shutil.which(compiler) is None:
            raise MissingPrerequisiteError(
                f'{compiler} was not found: install it (Debian, Ubuntu: apt install gcc g++).'
            )
    header = python_include() / 'Python.h'
    if not header.is_file():
        raise MissingPrerequisiteError(
            f'{header} was not found: install the headers of Python '
            f'{sys.version_info.major}.{sys.version_info.minor} '
            '(Debian, Ubuntu: apt install python3-dev).'
        )
    for module in GENERATOR_MODULES:
        if importlib.util.find_spec(module) is None:
            raise MissingPrerequisiteError(
                f'the Python module {module} was not found: install the ROS 2 wheels first '
                '(pip install -r requirements/ros.txt -c requirements/constraints.txt).'
            )


def python_include():
    """Return the folder of Python.h."""
    return Path(sysconfig.get_paths()['include'])


def ros_prefix():
    """Return the prefix (lib, include, share) that the ROS 2 wheels were installed into."""
    origin = Path(importlib.util.find_spec('rosidl_parser').origin)
    for folder in origin.parents:
        if (folder / 'share' / 'ament_index').is_dir():
            return folder
    raise MissingPrerequisiteError(
        f'no folder above {origin} holds share/ament_index: install the ROS 2 wheels anew.'
    )

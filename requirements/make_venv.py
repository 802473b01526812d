"""
Set up the development environment, one step per call: requirements, interfaces, project.

Runs on the standard library of the Python that the environment is made from. A sourced ROS 2
and an installed torch are used as they are: nothing that they provide is installed again.
"""

import argparse
from collections.abc import Sequence
import importlib.metadata
import os
from pathlib import Path
import subprocess
import sys
import time

REPOSITORY = Path(__file__).resolve().parents[1]
REQUIREMENTS = REPOSITORY / 'requirements'
SUPPORTED = ((3, 11), (3, 13))


class SetupError(Exception):
    """A sentence that says what is wrong and what to do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('venv', type=Path, help='folder of the virtual environment')
    parser.add_argument('step', choices=STEPS)
    arguments = parser.parse_args()
    try:
        check_python()
        STEPS[arguments.step](arguments.venv)
    except SetupError as error:
        sys.exit(f'{error}')


def check_python() -> None:
    """
    Refuse an interpreter that some wheel does not exist for.

    :raises SetupError: If this is not Python 3.11 to 3.13.
    """
    lowest, highest = SUPPORTED
    if not lowest <= sys.version_info[:2] <= highest:
        raise SetupError(
            f'Python 3.{lowest[1]} to 3.{highest[1]} is needed, {sys.executable} is '
            f'{sys.version_info.major}.{sys.version_info.minor}: name another with PYTHON=...')


def install_requirements(venv: Path) -> None:
    """Make the environment and install the third-party packages that the machine lacks."""
    with_ros, with_torch = ros_is_sourced(), can_import('torch')
    if with_ros and (venv / 'lib' / 'librcl.so').exists():
        raise SetupError(
            f'{venv} holds ROS 2 wheels, which do not mix with the sourced '
            f'{os.environ["ROS_DISTRO"]}: name another folder, for example VENV=.venv-ros')
    make_environment(venv, see_system=with_ros or with_torch)
    constraints = [REQUIREMENTS / 'constraints.txt', numpy_constraints(with_ros)]
    for name, sentence, provided in (
        ('base', 'Python packages', False),
        ('ros', 'ROS 2 Jazzy wheels', with_ros),
        ('torch', 'torch and torchvision', with_torch),
        ('dev', 'development tools', False),
    ):
        if provided:
            print(f'{sentence}: already on this machine')
            continue
        pip_install(venv, sentence, '-r', REQUIREMENTS / f'{name}.txt', *flagged(constraints),
                    *(pins_of_kept_torch() if with_torch else ()))


def install_interfaces(venv: Path) -> None:
    """Build vision_msgs and tf2_msgs, or check that the sourced ROS 2 has them."""
    packages = ('vision_msgs', 'tf2_msgs')
    if not ros_is_sourced():
        pip_install(venv, f'message packages {" and ".join(packages)}', *NO_RESOLVING,
                    REPOSITORY / 'interfaces')
        return
    missing = [name for name in packages if not can_import(name, python_of(venv))]
    if missing:
        distro = os.environ['ROS_DISTRO']
        names = ' '.join(f'ros-{distro}-{name.replace("_", "-")}' for name in missing)
        raise SetupError(f'The sourced ROS 2 lacks {" and ".join(missing)}: apt install {names}')


def install_project(venv: Path) -> None:
    """Install the checkout itself so that edits take effect at once."""
    os.environ['PYTHONWARNINGS'] = 'ignore'  # setuptools warns about every editable install
    pip_install(venv, 'perception_nodes (editable)', *NO_RESOLVING, '-e', REPOSITORY)


STEPS = {
    'requirements': install_requirements,
    'interfaces': install_interfaces,
    'project': install_project,
}
NO_RESOLVING = ('--no-deps', '--no-build-isolation')  # the first step installed what is needed


def ros_is_sourced() -> bool:
    """
    Return whether this shell has a real ROS 2 that this interpreter can use.

    :raises SetupError: If one is sourced for another interpreter: wheels beside it would mix.
    """
    if not ('ROS_DISTRO' in os.environ and 'AMENT_PREFIX_PATH' in os.environ):
        return False
    if not can_import('rclpy'):
        raise SetupError(
            f'ROS 2 {os.environ["ROS_DISTRO"]} is sourced, but {sys.executable} cannot import '
            'its rclpy: name the Python it was built for with PYTHON=..., install '
            f'ros-{os.environ["ROS_DISTRO"]}-rclpy, or use a shell that does not source ROS.')
    return True


def can_import(module: str, python: Path | str = sys.executable) -> bool:
    """Try the import in a process of its own, since a stale binary module may crash."""
    attempt = [python, '-c', f'import {module}']
    return subprocess.run(attempt, capture_output=True, check=False).returncode == 0


def numpy_constraints(with_ros: bool) -> Path:
    """Return the pins for NumPy's major version; message packages work with theirs only."""
    numpy_1 = with_ros and can_import('numpy; assert numpy.__version__[0] == "1"')
    return REQUIREMENTS / f'constraints-numpy{1 if numpy_1 else 2}.txt'


def pins_of_kept_torch() -> list[str]:
    """Return what stops pip from fetching another torch because some package prefers it."""
    found = {dist.metadata['Name']: dist.version for dist in importlib.metadata.distributions()}
    return [f'{name}=={found[name]}' for name in ('torch', 'torchvision') if name in found]


def flagged(constraints: list[Path]) -> list[str]:
    return [word for path in constraints for word in ('-c', str(path))]


def make_environment(venv: Path, see_system: bool) -> None:
    flags = ['--system-site-packages'] if see_system else []
    run_step(f'virtual environment {venv}', [sys.executable, '-m', 'venv', *flags, str(venv)])


def pip_install(venv: Path, sentence: str, *arguments: str | Path) -> None:
    pip = (python_of(venv), '-m', 'pip', '--disable-pip-version-check')
    run_step(sentence, [*pip, 'install', '-q', '--use-pep517', *arguments])


def python_of(venv: Path) -> Path:
    return venv / 'bin' / 'python'


def run_step(sentence: str, command: Sequence[str | Path]) -> None:
    """
    Run a command and say in one line what it did and how long it took.

    :raises SetupError: If it failed; what it wrote stands above.
    """
    print(f'{sentence} ...', end=' ', flush=True)
    start_s = time.monotonic()
    if subprocess.run(command, check=False).returncode != 0:
        raise SetupError(f'Setting up {sentence} failed; the reason stands above.')
    print(f'{time.monotonic() - start_s:.0f} s', flush=True)


if __name__ == '__main__':
    main()

"""The arrows between the rooms point down: what claims to be free of ROS or torch, is."""

import subprocess
import sys

import pytest

BLOCKER = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.partition('.')[0]
        if top in FORBIDDEN or any(top.endswith(end) for end in ENDINGS):
            raise ImportError(f'{name} is imported here')

FORBIDDEN = set(sys.argv[2].split(','))
ENDINGS = [end for end in sys.argv[3].split(',') if end]
sys.meta_path.insert(0, Blocked())
package = importlib.import_module(sys.argv[1])
imported = [package.__name__]
for module in pkgutil.walk_packages(getattr(package, '__path__', ()), package.__name__ + '.'):
    importlib.import_module(module.name)
    imported.append(module.name)
print(len(imported))
"""

ROS = 'rclpy,cv_bridge,message_filters,tf2_ros,launch,launch_ros,ament_index_python'
ROS_ENDINGS = '_msgs,_srvs,_interfaces'
NETWORKS = 'torch,torchvision,ultralytics,onnxruntime,stable_baselines3'


def import_all(package: str, forbidden: str, endings: str = '') -> subprocess.CompletedProcess:
    """Import every module of ``package`` in a fresh process that refuses ``forbidden``."""
    return subprocess.run(
        [sys.executable, '-c', BLOCKER, package, forbidden, endings],
        capture_output=True, text=True)


@pytest.mark.parametrize('package', [
    'perception_nodes.core', 'perception_nodes.conversions.decode',
    pytest.param('perception_nodes.backends', marks=pytest.mark.slow),
    'perception_nodes.evaluation', 'perception_nodes.sim'])
def test_imports_without_ros(package):
    """A room that claims to need no ROS imports where ROS cannot be imported."""
    pytest.importorskip('onnxruntime')
    done = import_all(package, ROS, ROS_ENDINGS)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1


@pytest.mark.parametrize(
    'package', ['perception_nodes.core', 'perception_nodes.conversions.decode'])
def test_imports_without_networks(package):
    """The core and the decoding of messages need no network runtime."""
    done = import_all(package, NETWORKS)
    assert done.returncode == 0, done.stderr


def test_the_blocker_blocks():
    """A package that does need what is forbidden is caught."""
    done = import_all('perception_nodes.core', 'numpy')
    assert done.returncode != 0
    assert 'numpy is imported here' in done.stderr

"""The arrows between the rooms point down: what claims to be free of ROS or torch, is."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'perception_nodes'

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


@pytest.mark.timeout(600)  # importing torch on a machine that is busy
@pytest.mark.parametrize('package', [
    'perception_nodes.core', 'perception_nodes.conversions.decode',
    pytest.param('perception_nodes.backends', marks=pytest.mark.slow),
    pytest.param('perception_nodes.evaluation', marks=pytest.mark.slow),  # GPUs: imports torch
    'perception_nodes.sim'])
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


# room: the rooms it may import from; programs (*_node.py) and cli may import from all below
MAY_IMPORT = {
    'core': set(),
    'conversions': {'core'},
    'backends': {'core'},
    'sim': {'core'},
    'ros': {'core', 'conversions'},
    'evaluation': {'core', 'conversions', 'backends', 'sim'},
    # one place reads label files: evaluation/datasets.py
    'training': {'core', 'conversions', 'backends', 'sim', 'evaluation'},
    'nodes': {'core', 'conversions', 'backends', 'sim', 'ros'},
}


def rooms_imported_by(path):
    """Yield the room of each module of the package that a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [f'{node.module}.{alias.name}' for alias in node.names]
        for module in modules:
            package, _, rest = module.partition('.')
            if package == 'perception_nodes' and rest:
                room = rest.partition('.')[0]
                yield room if (PACKAGE / room).is_dir() else 'nodes'


@pytest.mark.parametrize('room', MAY_IMPORT)
def test_arrows_point_down(room):
    """No room imports from one above it, not even inside a function."""
    files = PACKAGE.glob('*.py') if room == 'nodes' else (PACKAGE / room).rglob('*.py')
    wrong = {f'{path.relative_to(PACKAGE)} imports from {other}'
             for path in files for other in rooms_imported_by(path)
             if other not in MAY_IMPORT[room] | {room}}
    assert not wrong

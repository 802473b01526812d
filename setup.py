"""Installs the package the ament way; package.xml holds the same facts for ROS tools."""

from pathlib import Path

from setuptools import Distribution, find_packages, setup

NAME = 'perception_nodes'
SHARED_FOLDERS = ('launch', 'config', 'models', 'docs/gpu')  # the last: records of GPUs
NODES = (
    'anonymisation', 'classification', 'counting', 'description', 'detection', 'grasp',
    'navigation', 'obstacle_map', 'segmentation', 'simulation', 'track')
EXECUTABLES = {
    **{f'{name}_node': f'perception_nodes.programs:{name}_node' for name in NODES},
    'perception_container': 'perception_nodes.programs:perception_container',
    'perception': 'perception_nodes.cli.main:main',
}
LAUNCHER = '#!/bin/sh\nexec "$(dirname "$0")/../../bin/{name}" "$@"\n'


class PackageDistribution(Distribution):
    """A distribution whose share files belong to editable installs too."""

    has_data = Distribution.has_data_files  # the name that setuptools' editable_wheel asks for


class InstallData(Distribution().get_command_class('install_data')):
    """Share files, and in a pip prefix also the launchers that `ros2 run` looks for."""

    def run(self):
        super().run()
        executables = Path(self.install_dir) / 'lib' / NAME
        if Path(self.get_finalized_command('install_scripts').install_dir) == executables:
            return  # colcon: setup.cfg has already put the scripts there
        executables.mkdir(parents=True, exist_ok=True)
        for name in EXECUTABLES:
            launcher = executables / name
            launcher.write_text(LAUNCHER.format(name=name), encoding='utf-8')
            launcher.chmod(0o755)
            self.outfiles.append(str(launcher))


def shared_files():
    """Return (folder, files) for everything that belongs under share."""
    share = Path('share') / NAME
    found = [(str(share), ['package.xml'])]
    for top in SHARED_FOLDERS:
        for path in sorted(Path(top).rglob('*')):
            if path.is_file() and path.parent.name != '__pycache__':
                found.append((str(share / path.parent), [str(path)]))
    return found


def package_files():
    """Return what lies between the modules and is no module: pages, templates."""
    files = (path for path in Path(NAME).rglob('*.*') if path.is_file())
    return [
        str(path.relative_to(NAME)) for path in files
        if path.suffix != '.py' and path.parent.name != '__pycache__']


setup(
    name=NAME,
    version='0.1.0',
    description='ROS 2 perception: detections, masks, grasps and obstacle maps from camera '
    'topics.',
    license='Apache-2.0',
    maintainer='perception_nodes maintainers',
    maintainer_email='maintainers@perception-nodes.example',
    python_requires='>=3.11',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: package_files()},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        *shared_files(),
    ],
    entry_points={
        'console_scripts': [f'{name} = {target}' for name, target in EXECUTABLES.items()],
    },
    install_requires=[
        'aiohttp>=3.9',
        'faster-coco-eval>=1.6',
        'jinja2>=3.1',
        'lz4>=4',
        'mcap>=1.1',
        'numba>=0.59',
        'numpy>=1.26',
        'onnxruntime>=1.17',
        'opencv-python-headless>=4.6',
        'PyYAML>=6.0',
        'rosbags>=0.11,<0.12',
        'scipy>=1.11',
        'tqdm>=4.66',
        'zstandard>=0.20',
    ],
    extras_require={
        # ROS 2 Jazzy without a ROS install; vision_msgs and tf2_msgs: pip install ./interfaces
        'ros': [
            'ros-jazzy-diagnostic-msgs',
            'ros-jazzy-geometry-msgs',
            'ros-jazzy-nav-msgs',
            'ros-jazzy-rclpy',
            'ros-jazzy-rmw-fastrtps-cpp',
            'ros-jazzy-rosgraph-msgs',
            'ros-jazzy-sensor-msgs',
            'ros-jazzy-std-msgs',
            'ros-jazzy-std-srvs',
            'ros-jazzy-visualization-msgs',
        ],
        # COCO's average precision, for `perception evaluate-model`
        'evaluation': ['faster-coco-eval>=1.6'],
        # several machines for `perception evaluate`
        'cluster': ['ray>=2.9'],
        'sim': ['gymnasium>=1.0', 'mujoco>=4.0'],
        'torch': ['torch>=2.6', 'torchvision>=0.21'],
        # `perception train`: curves, files of networks, and the digits to try it on
        'training': ['faster-coco-eval>=1.6', 'matplotlib>=3.8', 'onnx>=1.16', 'safetensors>=0.4',
                     'scikit-learn>=1.4', 'stable-baselines3>=2.6', 'tensorboard>=2.16',
                     'torch>=2.6', 'torchvision>=0.21'],
        # AGPL-3.0, unlike this package: whoever installs it accepts that licence
        'ultralytics': ['ultralytics-opencv-headless>=8.4.190'],
        'test': ['pytest>=7', 'pytest-timeout'],
    },
    distclass=PackageDistribution,
    cmdclass={'install_data': InstallData},
    zip_safe=False,
)

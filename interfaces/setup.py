"""Wheel of the message packages beside this file, compiled for the running interpreter."""

from pathlib import Path
import shutil
import sys

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # a build backend does not put the project's folder on the path

from builder import compilation, generation, toolchain  # noqa: E402, I100

PACKAGES = ('vision_msgs', 'tf2_msgs')
WORK = HERE / 'build' / 'rosidl'


class CompiledDistribution(Distribution):
    """A distribution whose wheel is tied to the interpreter and the machine."""

    def has_ext_modules(self):
        return True

    def has_pure_modules(self):
        return True  # build_py runs only for these


class BuildMessages(build_py):
    """Generate and compile, then hand modules, libraries and share files to the wheel."""

    def run(self):
        try:
            toolchain.check()
            prefix = toolchain.ros_prefix()
        except toolchain.MissingPrerequisiteError as missing:
            raise SystemExit(f'Cannot build vision_msgs and tf2_msgs: {missing}') from None
        shutil.rmtree(WORK, ignore_errors=True)
        for package in PACKAGES:
            self._build(package, prefix)
        super().run()

    def _build(self, package, prefix):
        work = WORK / package
        generation.generate(package, HERE / package, work, prefix)
        modules = Path(self.build_lib) / package
        compilation.build_libraries(package, work, prefix, work / 'lib', modules)
        self._copy_modules(work / 'rosidl_generator_py' / package, modules)
        self._add_data('lib', (work / 'lib').glob('*.so'))
        self._add_share(package, work)

    def _copy_modules(self, generated, modules):
        (modules / 'msg').mkdir(parents=True, exist_ok=True)
        (modules / '__init__.py').touch()
        for path in generated.glob('msg/*.py'):
            shutil.copy(path, modules / 'msg')

    def _add_share(self, package, work):
        """Add what ament's and rosidl's tools look for under share."""
        definitions = sorted((HERE / package / 'msg').glob('*.msg'))
        generated = sorted((work / 'idl' / package / 'msg').glob('*.[ij]*'))
        self._add_data(f'share/{package}', [HERE / package / 'package.xml'])
        self._add_data(f'share/{package}/msg', [*definitions, *generated])
        listing = ''.join(f'msg/{path.name}\n' for path in [*definitions, *generated])
        for kind, text in (('packages', ''), ('rosidl_interfaces', listing)):
            marker = work / 'index' / kind / package
            marker.parent.mkdir(parents=True)
            marker.write_text(text, encoding='utf-8')
            self._add_data(f'share/ament_index/resource_index/{kind}', [marker])

    def _add_data(self, folder, paths):
        relative = [str(path.relative_to(HERE)) for path in paths]
        self.distribution.data_files.append((folder, relative))


setup(
    name='perception-nodes-interfaces',
    version='0.1.0',
    description='vision_msgs and tf2_msgs of ROS 2 Jazzy, built for Python without a ROS install',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=[],
    py_modules=[],
    data_files=[],
    distclass=CompiledDistribution,
    cmdclass={'build_py': BuildMessages},
    install_requires=['numpy', 'ros-jazzy-geometry-msgs', 'ros-jazzy-rclpy', 'ros-jazzy-std-msgs'],
)

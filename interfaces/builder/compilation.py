"""From generated sources to the shared libraries that rclpy loads."""

from concurrent.futures import ThreadPoolExecutor
import os
import re
import subprocess
import sysconfig

from builder import toolchain

# Libraries of the ROS 2 wheels that each family calls, in the order the families are linked.
RUNTIME_LIBRARIES = {
    'rosidl_generator_c': ('rosidl_runtime_c', 'rcutils'),
    'rosidl_typesupport_fastrtps_c': (
        'rosidl_typesupport_fastrtps_c',
        'rosidl_typesupport_fastrtps_cpp',
        'fastcdr',
        'rosidl_runtime_c',
    ),
    'rosidl_typesupport_introspection_c': (
        'rosidl_typesupport_introspection_c',
        'rosidl_runtime_c',
    ),
    'rosidl_typesupport_c': ('rosidl_typesupport_c', 'rosidl_runtime_c'),
}
PYTHON_FAMILY = 'rosidl_generator_py'


def build_libraries(package, work, prefix, library_folder, python_folder):
    """
    Compile and link everything that :func:`builder.generation.generate` wrote.

    :param library_folder: gets one libPACKAGE__FAMILY.so per family
    :param python_folder: gets the extension module of the package
    :raises subprocess.CalledProcessError: a compiler failed; its words are on stderr
    """
    families = (*RUNTIME_LIBRARIES, PYTHON_FAMILY)
    objects = _compile(package, families, work, prefix)
    dependencies = _dependencies(package, work, prefix)
    for family, runtime in RUNTIME_LIBRARIES.items():
        own = () if family == 'rosidl_generator_c' else (f'{package}__rosidl_generator_c',)
        output = library_folder / f'lib{package}__{family}.so'
        libraries = (*own, *_message_libraries(dependencies, family), *runtime)
        flags = ('-Wl,--no-undefined', '-Wl,-rpath,$ORIGIN')
        _link(output, objects[family], libraries, (library_folder, prefix / 'lib'), flags)
    _link(
        python_folder / f'{package}_s__rosidl_typesupport_c{_extension_suffix()}',
        objects[PYTHON_FAMILY],
        (
            f'{package}__rosidl_generator_c',
            f'{package}__rosidl_typesupport_c',
            *_message_libraries(dependencies, PYTHON_FAMILY),
            'rosidl_runtime_c',
            'rcutils',
        ),
        (library_folder, prefix / 'lib'),
        ('-Wl,-rpath,$ORIGIN/../../..',),  # from lib/pythonX.Y/site-packages/PACKAGE to lib
    )


def _compile(package, families, work, prefix):
    """Return the object files of each family."""
    sources = {
        family: sorted((work / family / package).rglob('*.c*')) for family in families
    }
    flags = ['-O1', '-fPIC', '-w', *(f'-I{path}' for path in _include_folders(work, prefix))]

    def compile_one(source):
        output = source.with_name(f'{source.name}.o')
        compiler = ('g++', '-std=c++17') if source.suffix == '.cpp' else ('gcc', '-std=gnu11')
        subprocess.run([*compiler, *flags, '-c', source, '-o', output], check=True)
        return output

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {family: pool.map(compile_one, paths) for family, paths in sources.items()}
        return {family: list(outputs) for family, outputs in running.items()}


def _include_folders(work, prefix):
    import numpy

    generated = _folders(work)
    shipped = [prefix / 'include', *_folders(prefix / 'include')]  # some wheels nest one deeper
    return [*generated, toolchain.python_include(), numpy.get_include(), *shipped]


def _folders(parent):
    return sorted(path for path in parent.iterdir() if path.is_dir())


def _dependencies(package, work, prefix):
    """Return every message package that the definitions reach: nested types are link symbols."""
    found = set()
    waiting = _included_packages(work / 'idl' / package)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting |= _included_packages(prefix / 'share' / name)
    return sorted(found - {package})


def _included_packages(folder):
    return {
        name
        for path in folder.rglob('*.idl')
        for name in re.findall(r'#include "([^/"]+)/', path.read_text(encoding='utf-8'))
    }


def _message_libraries(dependencies, family):
    """Return the libraries of other message packages that a family links against."""
    # The dispatching typesupport refers to types by name only, so their definitions are enough.
    wanted = {'rosidl_generator_c', family} - {'rosidl_typesupport_c'}
    return [f'{name}__{kind}' for name in dependencies for kind in sorted(wanted)]


def _link(output, objects, libraries, search_folders, flags):
    output.parent.mkdir(parents=True, exist_ok=True)
    command = ['g++', '-shared', '-s', '-o', output, *objects]
    command += [f'-L{folder}' for folder in search_folders]
    command += [f'-l{name}' for name in libraries]
    subprocess.run([*command, *flags], check=True)


def _extension_suffix():
    return sysconfig.get_config_var('EXT_SUFFIX')

"""From .msg files to C and Python sources, through the stock rosidl generators."""

import os
from pathlib import Path

# rclpy asks for rosidl_typesupport_c, which hands over to these two; Fast DDS needs both.
C_TYPESUPPORTS = ('rosidl_typesupport_fastrtps_c', 'rosidl_typesupport_introspection_c')


def generate(package, source, work, prefix):
    """
    Write the sources of a message package.

    :param package: name of the message package
    :param source: folder that holds msg/*.msg
    :param work: folder to write to; gets idl/PACKAGE (definitions and type hashes) and one
        FAMILY/PACKAGE per generator
    :param prefix: where the ROS 2 wheels were installed
    """
    os.environ['AMENT_PREFIX_PATH'] = str(prefix)  # the generators look their templates up there
    idl_folder = work / 'idl' / package
    interfaces = _write_idl(package, source, idl_folder)
    hashes = _write_type_hashes(package, interfaces, idl_folder, prefix)
    for family, generator, extra in _generators(hashes):
        output = work / family / package
        output.mkdir(parents=True)
        generator.generate(package, list(interfaces), [str(prefix / 'share')], output, *extra)


def _write_idl(package, source, folder):
    """Return the definitions in the form the generators take, `FOLDER:msg/NAME.idl`."""
    from rosidl_adapter.msg import convert_msg_to_idl

    (folder / 'msg').mkdir(parents=True)
    interfaces = []
    for path in sorted((source / 'msg').glob('*.msg')):
        convert_msg_to_idl(source, package, path.relative_to(source), folder / 'msg')
        interfaces.append(f'{folder}:msg/{path.stem}.idl')
    return interfaces


def _write_type_hashes(package, interfaces, folder, prefix):
    from rosidl_generator_type_description.cli import HashTypeDescription

    hasher = HashTypeDescription('type_description')
    written = hasher.generate_type_hashes(
        package, list(interfaces), [str(prefix / 'share')], folder
    )
    return [Path(path) for path in written]


def _generators(hashes):
    """Return (family, generator, further arguments) of every kind of source."""
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    dispatch = GenerateCTypesupport('c', typesupport_implementations=list(C_TYPESUPPORTS))
    python = GeneratePython('py', typesupport_implementations=['rosidl_typesupport_c'])
    return (
        ('rosidl_generator_c', GenerateC('c'), (hashes,)),
        ('rosidl_typesupport_fastrtps_c', GenerateFastRTPSCTypesupport('fastrtps_c'), ()),
        (
            'rosidl_typesupport_introspection_c',
            GenerateIntrospectionCTypesupport('introspection_c'),
            (),
        ),
        ('rosidl_typesupport_c', dispatch, ()),
        ('rosidl_generator_py', python, ()),
    )

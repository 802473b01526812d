"""Start the perception nodes on one camera."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetParameter
from perception_nodes.ros.launch_files import (
    BETWEEN_NODES,
    camera_presets,
    camera_topics,
    NODES,
    parameter_files,
    warn_of_misspelled,
)


def start_nodes(context: LaunchContext) -> list[Node]:
    """Start every node that is switched on, in one process or in one each."""
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    warn_of_misspelled(context, generate_launch_description())
    files = parameter_files(['perception'], value('params_file'))
    wanted = [name for name in NODES if value(name) == 'true']
    shared = {'package': 'perception_nodes', 'output': 'screen',
              'remappings': [*camera_topics(value('camera')).items(), *BETWEEN_NODES]}
    if value('container') == 'true':
        return [Node(executable='perception_container', name='perception_container',
                     parameters=[*files, {'nodes': wanted}], **shared)]
    return [Node(executable=f'{name}_node', name=name, parameters=files, **shared)
            for name in wanted]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, then start the nodes they ask for."""
    def switch(name: str, default: str, description: str) -> DeclareLaunchArgument:
        return DeclareLaunchArgument(
            name, default_value=default, choices=['true', 'false'], description=description)

    return LaunchDescription([
        DeclareLaunchArgument(
            'camera', default_value='/camera',
            description=f"The driver's namespace, or a preset: {', '.join(camera_presets())}"),
        DeclareLaunchArgument(
            'params_file', default_value='',
            description='YAML whose values replace the shipped ones'),
        DeclareLaunchArgument(
            'transport', default_value='tuned', choices=['tuned', 'default'],
            description='Shared memory sized for images, or what the system has'),
        switch('use_sim_time', 'false', 'Follow /clock, as in simulation and bag replay'),
        switch('autostart', 'true', 'Activate at once; false under a lifecycle manager'),
        switch('container', 'true', 'All nodes in one process, which decodes each image once'),
        # the others need more than a camera: depth, transforms, a robot
        *(switch(name, str(name == 'detection').lower(), f'Start the {name} node')
          for name in NODES),
        SetEnvironmentVariable('PERCEPTION_NODES_TRANSPORT', LaunchConfiguration('transport')),
        SetParameter('use_sim_time', LaunchConfiguration('use_sim_time')),
        SetParameter('autostart', LaunchConfiguration('autostart')),
        OpaqueFunction(function=start_nodes),
    ])

"""Start the simulated robot, and the perception nodes on its camera, in one process."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from perception_nodes.ros.launch_files import (
    BETWEEN_NODES,
    camera_topics,
    NODES,
    parameter_files,
    warn_of_misspelled,
)

# the others need a table, or weights that are fetched first
READY = ('detection', 'segmentation', 'obstacle_map')


def start_nodes(context: LaunchContext) -> list[Node]:
    """Start the simulator beside every node that is switched on."""
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    warn_of_misspelled(context, generate_launch_description())
    files = parameter_files(['perception', 'simulation'], value('params_file'))
    wanted = ['simulation', *(name for name in NODES if value(name) == 'true')]
    scene = ['-p', f'simulation:world:={value("world")}',
             '-p', f'simulation:seed:={value("seed")}']
    return [Node(
        package='perception_nodes', executable='perception_container',
        name='perception_container', output='screen',
        remappings=[*camera_topics('/camera').items(), *BETWEEN_NODES],
        ros_arguments=scene, parameters=[*files, {'nodes': wanted, 'use_sim_time': True}])]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, then start the nodes they ask for."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'world', default_value='room',
            description='room, tabletop_packed, tabletop_pile, corridor or water'),
        DeclareLaunchArgument('seed', default_value='0', description='Which scene of that world'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='true', choices=['true'],
            description='Always true here: the simulator publishes /clock'),
        DeclareLaunchArgument(
            'params_file', default_value='',
            description='YAML whose values replace the shipped ones'),
        *(DeclareLaunchArgument(
            name, default_value=str(name in READY).lower(), choices=['true', 'false'],
            description=f'Start the {name} node') for name in NODES),
        OpaqueFunction(function=start_nodes),
    ])

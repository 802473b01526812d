"""Start the perception nodes under a Nav2 lifecycle manager of their own (not run here)."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node

NODES = ('detection', 'segmentation', 'obstacle_map', 'classification', 'grasp', 'counting',
         'description', 'anonymisation', 'track', 'navigation')


def start_manager(context: LaunchContext) -> list[Node]:
    """Start a lifecycle manager of the nodes that are switched on."""
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    return [Node(
        package='nav2_lifecycle_manager', executable='lifecycle_manager',
        name='lifecycle_manager_perception', output='screen',
        parameters=[{'autostart': True, 'use_sim_time': value('use_sim_time') == 'true',
                     'node_names': [name for name in NODES if value(name) == 'true'],
                     'bond_timeout': float(value('bond_timeout'))}])]


def generate_launch_description() -> LaunchDescription:
    """Leave configuring and activating to the manager; every other argument is passed on."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=['true', 'false'],
            description='Follow /clock, as in simulation and bag replay'),
        DeclareLaunchArgument(
            'bond_timeout', default_value='0.0',
            description='Seconds without heartbeat until a node counts as dead; needs bondpy'),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(
                PathJoinSubstitution([ThisLaunchFileDir(), 'perception.launch.py'])),
            launch_arguments={'autostart': 'false'}.items()),
        # behind it, because the switches of the nodes are declared there
        OpaqueFunction(function=start_manager),
    ])

"""Start the perception nodes under a Nav2 lifecycle manager of their own (not run here)."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node

NODES = ('detection',)


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
        Node(package='nav2_lifecycle_manager', executable='lifecycle_manager',
             name='lifecycle_manager_perception', output='screen',
             parameters=[{'autostart': True, 'node_names': list(NODES),
                          'use_sim_time': LaunchConfiguration('use_sim_time'),
                          'bond_timeout': LaunchConfiguration('bond_timeout')}]),
    ])

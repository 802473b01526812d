"""Play a recorded bag to the perception nodes, on its own clock, and end with it."""

import sys

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare


def play(context: LaunchContext) -> list[ExecuteProcess]:
    """Publish the bag once a node is ready for it."""
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    words = ['play', value('bag'), '--clock', '--rate', value('rate'), '--wait', '60']
    words += ['--wait-for', value('wait_for')] if value('wait_for') else []
    words += ['--topics', *value('topics').split()] if value('topics') else []
    words += ['--loop'] if value('loop') == 'true' else []
    # no Node: it would be given the parameters that are for all nodes
    return [ExecuteProcess(cmd=[sys.executable, '-m', 'perception_nodes.cli', *words],
                           output='screen', on_exit=Shutdown())]


def generate_launch_description() -> LaunchDescription:
    """Declare the bag's arguments; every other one is that of perception.launch.py."""
    return LaunchDescription([
        DeclareLaunchArgument('bag', description='Folder of the bag, or its .mcap or .db3 file'),
        DeclareLaunchArgument(
            'rate', default_value='1.0', description='How many times faster than recorded'),
        DeclareLaunchArgument(
            'loop', default_value='false', choices=['true', 'false'],
            description='Start again at the end; nodes then see time jump back'),
        DeclareLaunchArgument(
            'topics', default_value='',
            description='Only these, separated by spaces: leave out recorded results of nodes '
            'that run again'),
        DeclareLaunchArgument(
            'wait_for', default_value='/detection/label_info',
            description='Begin when somebody publishes this topic: what a node says once it is '
            'active'),
        DeclareLaunchArgument(
            'rviz', default_value='false', choices=['true', 'false'],
            description='Start RViz with config/perception.rviz'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='true', choices=['true'],
            description='Always true here: the bag brings its clock'),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(
                PathJoinSubstitution([ThisLaunchFileDir(), 'perception.launch.py'])),
            launch_arguments={'use_sim_time': 'true'}.items()),
        OpaqueFunction(function=play),
        Node(package='rviz2', executable='rviz2', condition=IfCondition(
            LaunchConfiguration('rviz')), arguments=['-d', PathJoinSubstitution(
                [FindPackageShare('perception_nodes'), 'config', 'perception.rviz'])]),
    ])

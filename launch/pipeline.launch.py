"""A whole robot on one depth camera and a lidar: it sees, maps, drives to goals and grasps."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = Path(get_package_share_directory('perception_nodes'))
NODES = ('detection', 'segmentation', 'obstacle_map', 'navigation', 'grasp')
PASSED_ON = ('camera', 'params_file', 'use_sim_time')


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, then start all nodes in one process."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'camera', default_value='/camera',
            description="The driver's namespace, or a preset of perception.launch.py"),
        DeclareLaunchArgument(
            'params_file', default_value='',
            description='YAML whose values replace the shipped ones: models, gripper, footprint'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=['true', 'false'],
            description='Follow /clock, as in simulation and bag replay'),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'perception.launch.py')),
            launch_arguments=[*((name, LaunchConfiguration(name)) for name in PASSED_ON),
                              *((name, 'true') for name in NODES)]),
    ])

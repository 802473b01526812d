"""Drive a robot to goals: the navigation node on a lidar, on a depth camera, or on both."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetParameter
from perception_nodes.ros.launch_files import (
    camera_presets,
    camera_topics,
    parameter_files,
    warn_of_misspelled,
)

NODES = ('obstacle_map', 'navigation')


def start_nodes(context: LaunchContext) -> list[Node]:
    """Start the node that drives, and the map where a depth camera is looked through."""
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    warn_of_misspelled(context, generate_launch_description())
    sensor = value('sensor')
    wanted = ['navigation'] if sensor == 'lidar' else list(NODES)
    remappings = [*camera_topics(value('camera')).items(),
                  ('scan', value('scan')), ('odom', value('odom')), ('cmd_vel', value('cmd_vel'))]
    if sensor != 'lidar':  # the map's own scan shows obstacles of any height
        remappings.insert(0, ('navigation:scan', 'obstacle_map/scan'))
    files = parameter_files(['perception'], value('params_file'))
    return [Node(
        package='perception_nodes', executable='perception_container',
        name='perception_container', output='screen', remappings=remappings,
        ros_arguments=['-p', f'obstacle_map:use_scan:={str(sensor == "both").lower()}'],
        parameters=[*files, {'nodes': wanted}])]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, then start the nodes."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'sensor', default_value='lidar', choices=['lidar', 'depth', 'both'],
            description='What shows obstacles: a laser scan, a depth camera, or both in one map'),
        DeclareLaunchArgument(
            'camera', default_value='/camera',
            description=f"The driver's namespace, or a preset: {', '.join(camera_presets())}"),
        DeclareLaunchArgument('scan', default_value='scan', description='Topic of the lidar'),
        DeclareLaunchArgument('odom', default_value='odom', description='Topic of the odometry'),
        DeclareLaunchArgument(
            'cmd_vel', default_value='cmd_vel',
            description='Where commands go; an input of twist_mux or of a collision monitor'),
        DeclareLaunchArgument(
            'params_file', default_value='',
            description='YAML whose values replace the shipped ones'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=['true', 'false'],
            description='Follow /clock, as in simulation and bag replay'),
        DeclareLaunchArgument(
            'autostart', default_value='true', choices=['true', 'false'],
            description='Activate at once; false under a lifecycle manager'),
        SetParameter('use_sim_time', LaunchConfiguration('use_sim_time')),
        SetParameter('autostart', LaunchConfiguration('autostart')),
        OpaqueFunction(function=start_nodes),
    ])

"""Start the simulated robot, and the perception nodes on its camera, in one process."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from perception_nodes.ros.launch_arguments import misspelled, parameter_files

NODES = ('detection', 'segmentation', 'obstacle_map', 'classification', 'grasp', 'counting',
         'description', 'anonymisation', 'track', 'navigation')
# the others need a table, or weights that are fetched first
READY = ('detection', 'segmentation', 'obstacle_map')


def start_nodes(context: LaunchContext) -> list[Node]:
    """Start the simulator beside every node that is switched on."""
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    declared = generate_launch_description().get_launch_arguments()
    for sentence in misspelled(context.launch_configurations, [a.name for a in declared]):
        get_logger('perception_nodes').warning(sentence)
    files = parameter_files(['perception', 'simulation'], value('params_file'))
    wanted = ['simulation', *(name for name in NODES if value(name) == 'true')]
    scene = ['-p', f'simulation:world:={value("world")}',
             '-p', f'simulation:seed:={value("seed")}']
    remappings = [('image', '/camera/color/image_raw'),
                  ('depth', '/camera/aligned_depth_to_color/image_raw'),
                  ('camera_info', '/camera/color/camera_info'),
                  ('detections', 'detection/detections'),
                  ('detections_3d', 'detection/detections_3d'),
                  ('counting:label_info', 'detection/label_info'),
                  ('description:label_info', 'detection/label_info'),
                  ('mask', 'segmentation/mask'),
                  ('label_info', 'segmentation/label_info')]
    return [Node(
        package='perception_nodes', executable='perception_container',
        name='perception_container', output='screen', remappings=remappings,
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

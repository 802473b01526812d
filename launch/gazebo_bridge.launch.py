"""
Not tried here: Gazebo cannot be installed where this package is made. Reports are welcome.

Brings the topics of a Gazebo robot with an RGB-D camera to the names that the perception nodes
and ``simulation_node`` use, and ``cmd_vel`` back. It starts no Gazebo and no perception node, and
needs the package ros_gz_bridge. Give the camera ``<gz_frame_id>camera_color_optical_frame`` and
the lidar ``<gz_frame_id>laser`` in your SDF; ``/tf_static`` is your robot_state_publisher's.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

FROM_GAZEBO = '['
TO_GAZEBO = ']'


def start_bridge(context: LaunchContext) -> list[Node]:
    """Start one parameter_bridge for all topics."""
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    camera = value('gz_camera')
    twist = 'TwistStamped' if value('cmd_vel_stamped') == 'true' else 'Twist'
    # Gazebo's topic, ROS type, direction, Gazebo's type, name in ROS
    topics = [
        ('/clock', 'rosgraph_msgs/msg/Clock', FROM_GAZEBO, 'Clock', '/clock'),
        (f'{camera}/image', 'sensor_msgs/msg/Image', FROM_GAZEBO, 'Image',
         '/camera/color/image_raw'),
        (f'{camera}/depth_image', 'sensor_msgs/msg/Image', FROM_GAZEBO, 'Image',
         '/camera/aligned_depth_to_color/image_raw'),
        (f'{camera}/camera_info', 'sensor_msgs/msg/CameraInfo', FROM_GAZEBO, 'CameraInfo',
         '/camera/color/camera_info'),
        (value('gz_scan'), 'sensor_msgs/msg/LaserScan', FROM_GAZEBO, 'LaserScan', '/scan'),
        (value('gz_odom'), 'nav_msgs/msg/Odometry', FROM_GAZEBO, 'Odometry', '/odom'),
        (value('gz_tf'), 'tf2_msgs/msg/TFMessage', FROM_GAZEBO, 'Pose_V', '/tf'),
        (value('gz_cmd_vel'), f'geometry_msgs/msg/{twist}', TO_GAZEBO, 'Twist', '/cmd_vel'),
    ]
    return [Node(
        package='ros_gz_bridge', executable='parameter_bridge', name='gazebo_bridge',
        output='screen', parameters=[{'use_sim_time': True}],
        arguments=[f'{topic}@{ros_type}{direction}gz.msgs.{gazebo_type}'
                   for topic, ros_type, direction, gazebo_type, _ in topics],
        remappings=[(topic, name) for topic, _, _, _, name in topics if topic != name])]


def generate_launch_description() -> LaunchDescription:
    """Declare Gazebo's names, then start the bridge."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'gz_camera', default_value='/camera',
            description='<topic> of the rgbd_camera sensor in Gazebo'),
        DeclareLaunchArgument(
            'gz_scan', default_value='/scan', description='Topic of the lidar in Gazebo'),
        DeclareLaunchArgument(
            'gz_odom', default_value='/odom', description='Topic of the odometry in Gazebo'),
        DeclareLaunchArgument(
            'gz_tf', default_value='/tf', description='Topic of odom to base_link in Gazebo'),
        DeclareLaunchArgument(
            'gz_cmd_vel', default_value='/cmd_vel',
            description='Topic of the velocity commands in Gazebo'),
        DeclareLaunchArgument(
            'cmd_vel_stamped', default_value='true', choices=['true', 'false'],
            description='Whether cmd_vel is TwistStamped or Twist'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='true', choices=['true'],
            description='Always true here: Gazebo publishes /clock'),
        OpaqueFunction(function=start_bridge),
    ])

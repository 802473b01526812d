"""
``perception play``: publish a folder of pictures, a video, a live camera or a bag.

What needs the graph is imported once the arguments are right.
"""

import argparse
from pathlib import Path

from perception_nodes.cli.arguments import field_of_view, image_size, not_negative, positive
from perception_nodes.cli.calibration import load_calibration
from perception_nodes.cli.pictures import open_pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``perception play`` takes."""
    parser.add_argument(
        'source', help='folder of pictures, picture, video, camera (0, /dev/video0), URL '
        '(rtsp://, http://)')
    parser.add_argument(
        '--rate', type=positive, metavar='R',
        help="pictures per second (default: the video's own, 5 for pictures)")
    parser.add_argument('--loop', action='store_true', help='start again at the end')
    parser.add_argument(
        '--start', type=not_negative, default=0.0, metavar='S',
        help='begin S seconds into the source')
    pictures = parser.add_argument_group('pictures, videos and cameras')
    pictures.add_argument(
        '--camera', default='/camera', metavar='NAME',
        help='publish on NAME/color/image_raw and NAME/color/camera_info (default: /camera)')
    pictures.add_argument(
        '--size', type=image_size, metavar='WxH', help='stretch every picture to W x H pixels')
    pictures.add_argument(
        '--calibration', type=Path, metavar='YAML',
        help="camera_info from this file, as ROS' calibration tools write it")
    pictures.add_argument(
        '--fov', type=field_of_view, default=60.0, metavar='DEG',
        help='without a calibration: horizontal field of view for a guess (default: 60)')
    pictures.add_argument(
        '--wait-for', action='append', default=[], metavar='TOPIC',
        help='begin only when somebody publishes TOPIC; may be given several times')
    pictures.add_argument(
        '--wait', type=not_negative, default=5.0, metavar='S',
        help='wait at most S seconds for a listener and for each --wait-for (default: 5)')
    pictures.add_argument(
        '--pace-by', metavar='TOPIC',
        help='publish the next picture when a message with the same stamp came on TOPIC, so '
        'that every picture is processed however slow the machine is')
    pictures.add_argument(
        '--pace-timeout', type=positive, default=10.0, metavar='S',
        help='with --pace-by: go on after S seconds without an answer (default: 10)')


def run(arguments: argparse.Namespace) -> int:
    """Play the source to its end, or until interrupted."""
    calibration = load_calibration(arguments.calibration) if arguments.calibration else None
    pictures = open_pictures(arguments.source, arguments.start, arguments.size)
    from perception_nodes.cli.play_pictures import play
    return play(pictures, calibration, arguments)

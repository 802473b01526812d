"""
``perception play``: publish a folder of pictures, a video, a live camera or a bag.

What needs the graph is imported once the arguments are right.
"""

import argparse
from pathlib import Path

from perception_nodes.cli.arguments import (
    field_of_view,
    image_size,
    not_negative,
    positive,
    renaming,
)
from perception_nodes.cli.calibration import load_calibration
from perception_nodes.cli.pictures import open_pictures
from perception_nodes.evaluation.bag import Bag, is_bag

_PICTURES_ONLY = ('camera', 'size', 'calibration', 'fov')
_BAGS_ONLY = ('topics', 'remap', 'clock', 'pace_input')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``perception play`` takes."""
    parser.add_argument(
        'source', help='folder of pictures, picture, video, camera (0, /dev/video0), URL '
        '(rtsp://, http://), or bag (folder, .mcap, .db3)')
    parser.add_argument(
        '--rate', type=positive, metavar='R',
        help="pictures per second (default: the video's own, 5 for pictures); for a bag, how "
        'many times faster than recorded (default: 1)')
    parser.add_argument('--loop', action='store_true', help='start again at the end')
    parser.add_argument(
        '--start', type=not_negative, default=0.0, metavar='S',
        help='begin S seconds into the source')
    parser.add_argument(
        '--wait-for', action='append', default=[], metavar='TOPIC',
        help='begin only when somebody publishes TOPIC; may be given several times')
    parser.add_argument(
        '--wait', type=not_negative, default=5.0, metavar='S',
        help='wait at most S seconds for a listener and for each --wait-for (default: 5)')
    parser.add_argument(
        '--pace-by', metavar='TOPIC',
        help='publish the next picture when a message with the same stamp came on TOPIC, so '
        'that every picture is processed however slow the machine is')
    parser.add_argument(
        '--pace-timeout', type=positive, default=10.0, metavar='S',
        help='with --pace-by: go on after S seconds without an answer (default: 10)')
    pictures = parser.add_argument_group('pictures, videos and cameras')
    pictures.add_argument(
        '--camera', metavar='NAME',
        help='publish on NAME/color/image_raw and NAME/color/camera_info (default: /camera)')
    pictures.add_argument(
        '--size', type=image_size, metavar='WxH', help='stretch every picture to W x H pixels')
    pictures.add_argument(
        '--calibration', type=Path, metavar='YAML',
        help="camera_info from this file, as ROS' calibration tools write it")
    pictures.add_argument(
        '--fov', type=field_of_view, metavar='DEG',
        help='without a calibration: horizontal field of view for a guess (default: 60)')
    bags = parser.add_argument_group('bags')
    bags.add_argument(
        '--clock', action='store_true', help='publish the time of the recording on /clock')
    bags.add_argument('--topics', nargs='+', metavar='TOPIC', help='publish only these')
    bags.add_argument(
        '--remap', type=renaming, nargs='+', metavar='FROM:=TO', help='publish under other names')
    bags.add_argument(
        '--pace-input', metavar='TOPIC',
        help="with --pace-by: the topic whose messages are answered (default: the bag's colour "
        'image)')


def run(arguments: argparse.Namespace) -> int:
    """Play the source to its end, or until interrupted."""
    if is_bag(Path(arguments.source)):
        _refuse(arguments, _PICTURES_ONLY, 'pictures')
        with Bag(arguments.source) as bag:
            from perception_nodes.cli.play_bag import play as play_bag
            return play_bag(bag, arguments)
    _refuse(arguments, _BAGS_ONLY, 'bags')
    calibration = load_calibration(arguments.calibration) if arguments.calibration else None
    pictures = open_pictures(arguments.source, arguments.start, arguments.size)
    from perception_nodes.cli.play_pictures import play as play_pictures
    return play_pictures(pictures, calibration, arguments)


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], where: str) -> None:
    is_there = Path(arguments.source).exists()
    state = 'is a bag' if where == 'pictures' else 'is no bag' if is_there else 'does not exist'
    for name in names:
        if getattr(arguments, name):
            raise ValueError(
                f'--{name.replace("_", "-")} is for {where}; {arguments.source} {state}')

"""
Write frames of a bag as pictures to be labelled, with the detector's boxes to begin from.

The folder is a COCO data set: pictures are named by their stamp in nanoseconds, so that what is
labelled there can be matched with the bag again: ``perception evaluate BAG --labels
FOLDER/instances.json``.
"""

from argparse import ArgumentParser, Namespace
import logging
from pathlib import Path

from perception_nodes.cli.arguments import count, result_folder
from perception_nodes.cli.evaluate import add_camera_arguments
from perception_nodes.evaluation.bag_source import TopicNames
from perception_nodes.evaluation.parameter_sets import default_parameter_set, read_parameter_set
from perception_nodes.evaluation.sidecar import extract_frames

log = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument('bag', type=Path, help='folder or file of a recording')
    parser.add_argument('out', type=result_folder, help='folder to write')
    parser.add_argument(
        '--every', type=count, default=10, metavar='N', help='every N-th frame (default 10)')
    parser.add_argument(
        '--params', type=Path, metavar='FILE',
        help='ROS parameter file with the detection node whose boxes are written '
        '(default: the node as it is)')
    add_camera_arguments(parser)


def run(arguments: Namespace) -> int:
    """Write the pictures and say how many."""
    parameters = read_parameter_set(arguments.params, ('detection',)) if arguments.params \
        else default_parameter_set(('detection',))
    topics = TopicNames(
        arguments.camera.rstrip('/'), arguments.image, arguments.depth, arguments.camera_info)
    done = extract_frames(arguments.bag, arguments.out, arguments.every, topics, parameters)
    for sentence in done.sentences:
        log.warning(sentence)
    print(f'{done.pictures} picture(s) and {done.boxes} box(es) to correct in {arguments.out}\n'
          f'  then: perception evaluate {arguments.bag} --labels '
          f'{arguments.out / "instances.json"}')
    return 0

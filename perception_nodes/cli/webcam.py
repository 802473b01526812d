"""
``perception webcam``: camera to detection to browser in one command.

Camera and detection run in processes of their own, under a namespace that no robot uses; the
page is served from here.
"""

import argparse
from contextlib import ExitStack
import logging
import math
from pathlib import Path
import tempfile
import time

from perception_nodes.cli.processes import await_nodes, Child
from perception_nodes.cli.view import add_page_arguments, announce, RATE_HZ
from perception_nodes.cli.viewer.server import listen, PageServer
from perception_nodes.core.detection import DetectionParams
from perception_nodes.core.manifest import find_model

log = logging.getLogger(__name__)

_NAMESPACE = '/webcam'
_IMAGES = f'{_NAMESPACE}/color/image_raw'
_DETECTIONS = f'{_NAMESPACE}/detection/detections'
_START_TIMEOUT_S = 60.0
_CHECK_PERIOD_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``perception webcam`` takes."""
    parser.add_argument(
        'source', nargs='?', default='0',
        help='camera (0, /dev/video0), video, folder of pictures, or URL (default: 0); videos '
        'and folders are repeated')
    parser.add_argument(
        '--model', default=DetectionParams().model, metavar='NAME',
        help='detection model of the manifest (default: %(default)s)')
    add_page_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run camera, detection and page until interrupted, or until one of them fails."""
    model = find_model(arguments.model, 'detection')
    with ExitStack() as stack:
        listener = stack.enter_context(listen(arguments.host, arguments.port))
        log.info('starting camera %s and model %s', arguments.source, model.name)
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        children = [
            stack.enter_context(Child('the camera', [
                'perception_nodes.cli', 'play', '--loop', '--camera', _NAMESPACE,
                '--', arguments.source], logs / 'camera')),
            stack.enter_context(Child('the detection node', [
                'perception_nodes.detection_node', '--ros-args', '-r', f'__ns:={_NAMESPACE}',
                '-r', f'image:={_IMAGES}', '-p', f'model:={model.name}'], logs / 'detection'))]
        from perception_nodes.cli.viewer.watcher import Watcher
        from perception_nodes.ros.session import Session
        session = stack.enter_context(Session('perception_webcam'))
        watcher = Watcher(session, [_IMAGES, _DETECTIONS], RATE_HZ)
        stack.enter_context(PageServer(listener, watcher))
        stack.enter_context(watcher)
        await_nodes(session, children, lambda: all(map(
            session.node.count_publishers, (_IMAGES, _DETECTIONS))), _START_TIMEOUT_S)
        announce(listener)
        end_s = time.monotonic() + (arguments.duration or math.inf)
        while time.monotonic() < end_s:
            for child in children:
                child.check()
            time.sleep(_CHECK_PERIOD_S)
    return 0

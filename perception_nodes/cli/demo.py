"""
``perception demo``: photos and a simulated robot, through topics, into bags and a report.

For the photos this process is the camera. A detection node and a recorder run in processes of
their own; the pictures, boxes and class names of the report are the ones read back from the bag.
The robot is in :mod:`perception_nodes.cli.demo_simulation`.
"""

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
import logging
import os
from pathlib import Path
import platform
import shlex
import tempfile
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.cli.arguments import result_folder
from perception_nodes.cli.demo_animation import write_animation
from perception_nodes.cli.demo_evaluation import evaluate_drive
from perception_nodes.cli.demo_health import await_reports, Health, node_figures, reported
from perception_nodes.cli.demo_pictures import DATA_VARIABLE, demo_pictures, DemoPicture
from perception_nodes.cli.demo_simulation import (
    DETECTOR,
    DRIVE_PERIOD_MS,
    drive_pictures,
    simulate,
    simulation_section,
    simulation_values,
    skipped_section,
    why_not,
)
from perception_nodes.cli.parameters import add_flags, from_flags, ros_arguments
from perception_nodes.cli.pictures import Picture
from perception_nodes.cli.processes import await_nodes, Child, use_private_graph
from perception_nodes.conversions.decode import (
    class_names_from_msg,
    detections_from_msg,
    rgb_from_msg,
    stamp_ns_from_msg,
)
from perception_nodes.core.detection import DetectionParams
from perception_nodes.core.manifest import find_model
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.report import (
    jpeg,
    Report,
    Section,
    Shot,
    Step,
    Tile,
    write_report,
)
from perception_nodes.evaluation.results import commit, percentiles, write_results
from tqdm import tqdm

log = logging.getLogger(__name__)

_IMAGES = '/camera/color/image_raw'
_DETECTIONS, _LABEL_INFO = '/detection/detections', '/detection/label_info'
_TOPICS = (_IMAGES, '/camera/color/camera_info', _DETECTIONS, _LABEL_INFO, '/diagnostics')
_TITLE = 'perception_nodes demo'
_RATE_HZ = 10.0
_START_TIMEOUT_S, _ANSWER_TIMEOUT_S = 60.0, 20.0


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        '--out', type=result_folder, default='out/demo', metavar='FOLDER',
        help='where to write report.html, metrics.json, pictures/, bags and evaluation/ '
             '(default %(default)s)')
    parser.add_argument(
        '--only', choices=('photos', 'simulation'), help='one part instead of both')
    add_flags(parser, DetectionParams)


def run(arguments: Namespace) -> int:
    """Run the demo and say where its results are."""
    start_s = time.monotonic()
    params = from_flags(DetectionParams, arguments)
    find_model(params.model, 'detection', params.manifest)
    reason = why_not()
    if arguments.only == 'simulation' and reason:
        raise ValueError(reason)
    photos = None if arguments.only == 'simulation' else _photos()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    page = _Page(params)
    if photos is not None:
        _show_photos(photos, params, out, page)
    if arguments.only != 'photos':
        _show_simulation(reason, params, out, page)
    wall_s = time.monotonic() - start_s
    write_results(out / 'metrics.json', page.metrics(), seed=0, n=page.n, wall_s=wall_s)
    write_report(out / 'report.html', page.report(wall_s))
    print('\n'.join([
        *page.sentences, f'  report   {out / "report.html"}',
        f'  metrics  {out / "metrics.json"}', *page.places]))
    return 0


@dataclass
class _Page:
    """What the parts of the demo leave for the page, the metrics and the terminal."""

    params: DetectionParams
    shots: Sequence[Shot] = ()
    recording: '_Recording | None' = None
    sections: list[Section] = field(default_factory=list)
    photo_values: dict[str, Any] = field(default_factory=dict)
    drive_values: dict[str, Any] = field(default_factory=dict)
    n: int = 0  # samples behind the figures
    sentences: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def metrics(self) -> dict[str, Any]:
        """Return all figures; of what both parts measure, the photos' get a prefix."""
        both = {f'photos_{name}': value for name, value in self.photo_values.items()
                if name in self.drive_values}
        return {**self.photo_values, **both, **self.drive_values}

    def report(self, wall_s: float) -> Report:
        if self.recording is not None:
            return _report(self.shots, self.recording, self.params, self.photo_values, wall_s,
                           self.sections)
        return Report(
            title=_TITLE, headline='A robot that was simulated, and what it saw',
            lead='A recorder wrote every topic to a bag, and this page was drawn from that bag.',
            steps=(), tiles=(), shots=(), class_names={}, sections=self.sections,
            commands=_simulation_commands(), facts=_facts(self.params))


def _photos() -> list[DemoPicture]:
    pictures = list(demo_pictures())
    if not pictures:
        raise ValueError(
            'no photos were found: install scikit-image, matplotlib or ultralytics, whose sample '
            f'photos are used, or set {DATA_VARIABLE} to a folder with bags/')
    return pictures


def _show_photos(
    pictures: Sequence[DemoPicture], params: DetectionParams, out: Path, page: _Page
) -> None:
    sent = _send(pictures, params, out / 'bag')
    page.recording = recording = _read_back(out / 'bag')
    page.shots = shots = list(_shots(sent, recording))
    _write_pictures(shots, recording.class_names, out / 'pictures')
    page.photo_values = _values(shots, recording, out / 'bag')
    page.n += len(shots)
    page.sentences.append(_sentence(shots, recording.class_names))
    page.places += [f'  pictures {out / "pictures"}', f'  bag      {out / "bag"}']


def _show_simulation(reason: str, params: DetectionParams, out: Path, page: _Page) -> None:
    if reason:
        page.sentences.append(f'No simulated robot: {reason}.')
        page.sections.append(skipped_section(reason))
        return
    bag = out / 'simulation_bag'
    seeing = DetectionParams(model=DETECTOR, manifest=params.manifest, device=params.device)
    drive = simulate(seeing, bag, out / 'table_bag')
    log.info('evaluating the recording')
    values = simulation_values(drive, bag) | evaluate_drive(
        bag, drive.parameters, out / 'evaluation')
    page.sections.append(simulation_section(drive, values))
    page.drive_values = values
    page.n += len(drive.colours)
    page.sentences.append(
        f'A simulated robot reached {values["goals_reached"]} of '
        f'{_number(values["goals"], "goal")} by its own perception: '
        f'{values["simulation_distance_m"]:.1f} m at '
        f'{values["simulation_real_time_factor"]:.2f} times real time: '
        f'{_number(values["simulation_frames"], "frame")}, '
        f'{_number(values["collisions"], "collision")}.')
    write_animation(out / 'drive.webp', drive_pictures(drive), DRIVE_PERIOD_MS)
    page.places += [f'  drive    {bag}, {out / "drive.webp"}',
                    f'  scores   {out / "evaluation" / "report.html"}']


@dataclass
class _Pictures:
    """Pictures in memory as a source that can be played."""

    pictures: Sequence[DemoPicture]
    rate_hz: float | None = _RATE_HZ
    skipped: int = 0

    def __iter__(self) -> Iterator[Picture]:
        return (Picture(picture.title, picture.rgb) for picture in self.pictures)

    def count(self) -> int | None:
        return len(self.pictures)


def _send(
    pictures: Sequence[DemoPicture], params: DetectionParams, bag: Path
) -> dict[int, DemoPicture]:
    """
    Play the pictures through the graph into a bag.

    :return: The pictures by the stamp, in nanoseconds, under which they were published.
    :raises OSError: If a process fails or leaves a picture unanswered.
    """
    from perception_nodes.cli.play_pictures import PicturePublisher, publish_all, Replies
    from perception_nodes.ros.session import Session

    log.info('starting a detection node and a recorder, on ROS_DOMAIN_ID %d', use_private_graph())
    node_command = [
        'perception_nodes.detection_node', *ros_arguments(params), '-r', f'image:={_IMAGES}']
    record_command = [
        'perception_nodes.cli', 'record', str(bag), '--overwrite', '--topics', *_TOPICS]
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = stack.enter_context(Child('the detection node', node_command, logs / 'node'))
        recorder = stack.enter_context(Child('the recorder', record_command, logs / 'recorder'))
        session = stack.enter_context(Session('perception_demo'))
        camera = PicturePublisher(session)

        def is_everybody_there() -> bool:
            recorded = map(session.node.count_subscribers, (_DETECTIONS, _LABEL_INFO))
            return camera.listeners() >= 2 and all(recorded)

        await_nodes(session, [node, recorder], is_everybody_there, _START_TIMEOUT_S)
        time.sleep(0.5)  # the other side of a match may learn of it a little later
        sent = {}
        playing = publish_all(
            _Pictures(pictures), camera, _RATE_HZ, Replies(session, _DETECTIONS),
            _ANSWER_TIMEOUT_S)
        bar = tqdm(zip(playing, pictures, strict=True), 'camera', len(pictures), unit='picture',
                   disable=None, leave=False)
        for one, picture in bar:
            if not one.answered:
                node.check()
                recorder.check()
                raise TimeoutError(
                    f'the detection node did not answer {one.name} within '
                    f'{_ANSWER_TIMEOUT_S:g} s; its last lines:\n{node.last_lines()}')
            sent[one.stamp_ns] = picture
        log.info('%d pictures were published and answered', len(sent))
        camera.finish()
        await_reports(session, [node, recorder], ['detection'])
        recorder.stop()
        node.stop()
    return sent


@dataclass
class _Recording:
    """What the bag holds."""

    images: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)  # by stamp_ns
    found: dict[int, Detections] = field(default_factory=dict)  # by stamp_ns
    age_ms: dict[int, float] = field(default_factory=dict)  # from stamp to record, by stamp_ns
    class_names: dict[int, str] = field(default_factory=dict)
    health: Health = field(default_factory=dict)
    messages: int = 0


def _read_back(path: Path) -> _Recording:
    recording = _Recording()
    with Bag(path) as bag:
        for message in bag.messages():
            recording.messages += 1
            _take(recording, message.topic, message.content, message.stamp_ns)
    return recording


def _take(recording: _Recording, topic: str, msg: Any, received_ns: int) -> None:
    if topic == _LABEL_INFO:
        recording.class_names = class_names_from_msg(msg)
    elif topic == _IMAGES:
        recording.images[stamp_ns_from_msg(msg.header.stamp)] = rgb_from_msg(msg)
    elif topic == _DETECTIONS:
        stamp_ns = stamp_ns_from_msg(msg.header.stamp)
        recording.found[stamp_ns] = detections_from_msg(msg)
        recording.age_ms[stamp_ns] = (received_ns - stamp_ns) * 1e-6
    elif topic == '/diagnostics':
        recording.health |= reported(msg)


def _shots(sent: dict[int, DemoPicture], recording: _Recording) -> Iterator[Shot]:
    """
    Yield each picture as it was recorded with its result, in the order played.

    :raises ValueError: If the bag lacks a picture, a result or the class names.
    """
    if not recording.class_names:
        raise ValueError(f'the bag holds no message of {_LABEL_INFO}: was the disk too slow?')
    for stamp_ns, picture in sent.items():
        if stamp_ns not in recording.images or stamp_ns not in recording.found:
            missing = _IMAGES if stamp_ns not in recording.images else _DETECTIONS
            raise ValueError(
                f"the bag lacks the message of {missing} for '{picture.title}': "
                'was the disk too slow?')
        yield Shot(picture.title, picture.credit, recording.images[stamp_ns],
                   recording.found[stamp_ns], recording.age_ms[stamp_ns])


def _write_pictures(
    shots: Sequence[Shot], class_names: dict[int, str], folder: Path
) -> None:
    folder.mkdir(exist_ok=True)
    for number, shot in enumerate(shots, start=1):
        name = f'{number:02d}_{shot.title.lower().replace(" ", "_")}.jpg'
        (folder / name).write_bytes(jpeg(shot.overlay(class_names)))


def _values(
    shots: Sequence[Shot], recording: _Recording, bag: Path
) -> dict[str, float | int | str]:
    health = recording.health.get('detection', {})
    return {
        'pictures': len(shots),
        'detections': sum(len(shot.found) for shot in shots),
        'classes_seen': len(_counts(shots)),
        'pictures_with_detections': sum(len(shot.found) > 0 for shot in shots),
        # by the node's steady clock, and by the clock between stamp and recorder
        **node_figures('detection', health),
        **percentiles('stamp_to_record_ms', [shot.age_ms for shot in shots]),
        'failed_detection': int(health.get('failed', 0)),
        'bag_messages': recording.messages,
        'bag_bytes': sum(file.stat().st_size for file in bag.iterdir()),
    }


def _counts(shots: Sequence[Shot]) -> Counter[int]:
    return Counter(i for shot in shots for i in shot.found.class_ids.tolist())


def _sentence(shots: Sequence[Shot], class_names: dict[int, str]) -> str:
    counts = _counts(shots).most_common()
    seen = ', '.join(f'{n} × {class_names.get(class_id, class_id)}' for class_id, n in counts)
    return (f'{_number(sum(n for _, n in counts), "object")} in '
            f'{_number(len(shots), "picture")}: {seen or "nothing above the threshold"}.')


def _number(n: int, noun: str) -> str:
    return f'{n} {noun}' if n == 1 else f'{n} {noun}s'


def _report(
    shots: Sequence[Shot], recording: _Recording, params: DetectionParams,
    values: dict[str, Any], wall_s: float, sections: Sequence[Section],
) -> Report:
    return Report(
        title=_TITLE,
        headline=f'{_number(values["detections"], "object")}, seen in '
                 f'{_number(len(shots), "picture")}',
        lead='Photos were published as the frames of a camera. A node found the objects in them, '
             'a recorder wrote every topic to a bag, and this page was drawn from that bag.'
             + (' A simulated robot follows further down.' if sections else ''),
        steps=[
            Step('camera', _IMAGES), Step(f'detection ({params.model})', _DETECTIONS),
            Step('recorder', f'bag/, {values["bag_messages"]} messages, '
                             f'{values["bag_bytes"] / 1e6:.1f} MB'),
            Step('report', 'report.html')],
        tiles=[
            Tile(str(values['pictures']), 'pictures', 'all of them answered'),
            Tile(str(values['detections']), 'objects', f'of {values["classes_seen"]} classes'),
            Tile(f'{values["age_p50_ms_detection"]:.0f} ms', 'median age',
                 'receipt to publication'),
            Tile(f'{values["age_p95_ms_detection"]:.0f} ms', 'age p95',
                 'receipt to publication'),
            Tile(str(values['dropped_detection']), 'frames dropped',
                 f'{values["failed_detection"]} failed'),
            Tile(f'{wall_s:.0f} s', 'in all', 'with the start of the processes')],
        shots=shots, class_names=recording.class_names,
        commands=[*_commands(params), *(_simulation_commands() if sections else ())],
        facts=_facts(params), sections=sections)


def _commands(params: DetectionParams) -> list[tuple[str, str]]:
    node = shlex.join(['detection_node', *ros_arguments(params), '-r', f'image:={_IMAGES}'])
    return [
        ('This page, again:', 'perception demo --out out/demo'),
        ('The recorded bag, played and watched:',
         'perception play out/demo/bag --loop &\nperception view'),
        ('The same node on your own pictures, video or camera:',
         f'{node} &\nperception play YOUR_FOLDER --wait-for {_DETECTIONS} '
         f'--pace-by {_DETECTIONS}'),
        ('Your camera, live in the browser:', 'perception webcam')]


def _simulation_commands() -> list[tuple[str, str]]:
    return [
        ('The drive alone:', 'perception demo --only simulation --out out/demo'),
        ('A simulated robot that waits for your cmd_vel:',
         'ros2 launch perception_nodes simulation.launch.py world:=room seed:=19'),
        ('The recorded drive, played and watched:',
         'perception play out/demo/simulation_bag --loop &\nperception view'),
        ('The recorded drive, evaluated:',
         'perception evaluate out/demo/simulation_bag --params out/demo/evaluation/params.yaml')]


def _facts(params: DetectionParams) -> list[tuple[str, str]]:
    packages = ('mujoco', 'numpy', 'onnxruntime', 'opencv-python-headless', 'rclpy', 'rosbags')
    return [
        ('source', commit()), ('model', params.model),
        ('score threshold', f'{params.score_threshold:g}'),
        ('largest overlap of boxes', f'{params.nms_iou:g}'),
        ('Python', platform.python_version()),
        *[(name, found) for name in packages if (found := _version(name))],
        ('machine', f'{platform.system()} {platform.release()}, {platform.machine()}, '
                    f'{os.cpu_count()} cores'),
        ('made', time.strftime('%Y-%m-%d %H:%M:%S %Z'))]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ''

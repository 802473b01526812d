"""A doctor's look at bags and at the machine, and what the verb says and returns."""

import argparse
from dataclasses import replace
import fcntl
import json
import os
import subprocess
import sys

import numpy as np
from perception_nodes.cli import doctor
from perception_nodes.cli.diagnosis import machine
from perception_nodes.cli.diagnosis.bag import bag_snapshot
from perception_nodes.cli.diagnosis.snapshot import NeedFacts
from perception_nodes.cli.diagnosis.watch import Arrivals, TransformWatch
from perception_nodes.core.types import StampedTransform
from perception_nodes.evaluation.bag_writer import BagWriter
import pytest
from rosbags.typesys import get_typestore, Stores

STORE = get_typestore(Stores.ROS2_JAZZY)
COLOUR, DEPTH = '/camera/color/image_raw', '/camera/depth/image_raw'
START_NS = 1_700_000_000_000_000_000


@pytest.fixture(autouse=True)
def shipped(monkeypatch):
    """Leave the shipped weights, which have tests of their own, alone."""
    monkeypatch.setattr(doctor, 'shipped_models', tuple)


def msg(name, **values):
    package, _, kind = name.partition('/')
    return STORE.types[f'{package}/msg/{kind}'](**values)


def header(stamp_ns, frame):
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return msg('std_msgs/Header', stamp=msg(
        'builtin_interfaces/Time', sec=sec, nanosec=nanosec), frame_id=frame)


def image(stamp_ns, pixels, encoding, frame='optical'):
    return msg('sensor_msgs/Image', header=header(stamp_ns, frame), height=pixels.shape[0],
               width=pixels.shape[1], encoding=encoding, is_bigendian=0,
               step=pixels.strides[0], data=pixels.reshape(-1).view(np.uint8))


def camera_info(stamp_ns, width, height, frame='optical'):
    k = np.array([50.0, 0, width / 2, 0, 50.0, height / 2, 0, 0, 1])
    roi = msg('sensor_msgs/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0,
              do_rectify=False)
    return msg('sensor_msgs/CameraInfo', header=header(stamp_ns, frame), height=height,
               width=width, distortion_model='plumb_bob', d=np.zeros(5), k=k,
               r=np.eye(3).ravel(), p=np.zeros(12), binning_x=0, binning_y=0, roi=roi)


def transform(stamp_ns, parent, child):
    return msg('tf2_msgs/TFMessage', transforms=[msg(
        'geometry_msgs/TransformStamped', header=header(stamp_ns, parent), child_frame_id=child,
        transform=msg('geometry_msgs/Transform',
                      translation=msg('geometry_msgs/Vector3', x=0.0, y=0.0, z=0.0),
                      rotation=msg('geometry_msgs/Quaternion', x=0.0, y=0.0, z=0.0, w=1.0)))])


def write(path, streams):
    """Write (topic, receipt, message) in the order given."""
    writer = BagWriter(path, 'mcap')
    for topic, received_ns, message in streams:
        if topic not in writer.counts:
            writer.add_topic(topic, message.__msgtype__)
        writer.write(topic, received_ns, bytes(STORE.serialize_cdr(message, message.__msgtype__)))
    writer.close()
    return path


def recording(frames=20, *, size=(8, 6), depth_mm=1500, tf_late_ns=0, gap_s=0.0, missing=''):
    """Return a tidy recording, with one thing changed."""
    streams = []
    for k in range(frames):
        t = START_NS + k * 100_000_000 + (int(gap_s * 1e9) if k >= frames // 2 else 0)
        rgb, depth = np.zeros((6, 8, 3), np.uint8), np.full((6, 8), depth_mm, np.uint16)
        streams += [
            (COLOUR, t + 1, image(t, rgb, 'rgb8')), (DEPTH, t + 2, image(t, depth, '16UC1')),
            ('/camera/color/camera_info', t + 3, camera_info(t, *size)),
            ('/camera/depth/camera_info', t + 4, camera_info(t, 8, 6)),
            ('/tf', t + 5 + tf_late_ns, transform(t, 'odom', 'base')),
            ('/tf', t + 6, transform(t, 'base', 'optical'))]
    return [s for s in sorted(streams, key=lambda s: s[1]) if s[0] != missing]


def examined(capsys, *words):
    """Return the exit code and the findings of the verb."""
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    code = doctor.run(parser.parse_args([*map(str, words), '--json']))
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {'errors', 'warnings', 'findings'}
    return code, [(f['check'], f['sentence']) for f in report['findings']
                  if f['level'] != 'info']


def test_a_tidy_bag_is_healthy(tmp_path, capsys):
    bag = write(tmp_path / 'bag', recording())
    assert examined(capsys, '--bag', bag) == (0, [])


@pytest.mark.parametrize(('change', 'code', 'check', 'words'), [
    ({'size': (640, 480)}, 2, 'camera_info', 'is for 640x480 pixels, /camera/color/image_raw has'),
    ({'missing': '/camera/depth/camera_info', 'size': (4, 4)}, 2, 'camera_info',
     f'{DEPTH} has no camera_info on /camera/depth/camera_info'),
    ({'depth_mm': 2}, 2, 'depth_units', 'the numbers look like metres'),
    ({'gap_s': 3.0}, 1, 'rates', f'{COLOUR} paused for 3.1 s; it comes every 100 ms'),
    ({'tf_late_ns': 400_000_000}, 1, 'transforms', 'ms after their images; nodes wait 100 ms'),
    ({'missing': COLOUR, 'depth_mm': 0}, 1, 'depth_units', 'has readings in 0.0% of its pixels')])
def test_what_is_wrong_with_a_bag(change, code, check, words, tmp_path, capsys):
    bag = write(tmp_path / 'bag', recording(**change))
    found_code, found = examined(capsys, '--bag', bag)
    assert found_code == code
    assert any(name == check and words in sentence for name, sentence in found), found


def test_frames_models_and_devices_of_a_parameter_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine, 'device_problem', lambda device: f'no {device}' * bool(device))
    bag = write(tmp_path / 'bag', recording())
    params = tmp_path / 'mine.yaml'
    params.write_text('obstacle_map: {ros__parameters: {map_frame: map, base_frame: base}}\n'
                      'detection: {ros__parameters: {device: "cuda:7"}}\n')
    code, found = examined(capsys, '--bag', bag, '--params', params)
    assert code == 2
    sentences = dict(found)
    assert "from 'optical' (/camera/color/image_raw) to 'map'" in sentences['transforms']
    assert "nobody publishes frame 'map'; known are base, odom, optical" in sentences['transforms']
    assert sentences['devices'] == '/detection: no cuda:7'
    params.write_text('detection: {ros__parameters: {model: nonesuch}}\n')
    code, found = examined(capsys, '--bag', bag, '--params', params)
    assert code == 2
    assert found[0][0] == 'models'
    assert "there is no model 'nonesuch'" in found[0][1]


def test_files_that_cannot_be_read_are_findings(tmp_path, capsys):
    broken = tmp_path / 'broken.yaml'
    broken.write_text('detection: [')
    code, found = examined(capsys, '--bag', tmp_path / 'none', '--params', broken)
    assert code == 2
    assert [check for check, _ in found] == ['parameters', 'bag']
    assert found[1][1].endswith('none does not exist')


def test_a_cut_bag_is_a_warning_and_an_expected_rate_is_checked(tmp_path, capsys):
    bag = write(tmp_path / 'bag', recording(60))
    whole, = bag.glob('*.mcap')
    cut = tmp_path / 'cut.mcap'
    cut.write_bytes(whole.read_bytes()[:whole.stat().st_size * 2 // 3])
    code, found = examined(capsys, '--bag', cut, '--rate', f'{COLOUR}=30')
    assert code == 1
    assert {'bag', 'rates'} <= {check for check, _ in found}
    assert any(f'{COLOUR} comes 10.0 times a second, 30 are expected' in s for _, s in found)


def test_bytes_that_are_no_image_are_said_once(tmp_path):
    streams = [(COLOUR, START_NS + k * 100_000_000, image(START_NS, np.zeros(
        (6, 8, 3), np.uint8), 'nv21')) for k in range(5)]
    found = bag_snapshot(write(tmp_path / 'bag', streams), [], {})
    assert "encoding 'nv21'; supported are rgb8" in found.images[COLOUR].problem
    assert found.topics[COLOUR].traffic.lag_s == pytest.approx(0.2)


def test_the_text_names_level_check_and_fix(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    bag = write(tmp_path / 'bag', recording(depth_mm=2))
    assert doctor.run(parser.parse_args(['--bag', str(bag)])) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f'error   [depth_units] {DEPTH} is 16UC1')
    assert lines[1].startswith("        -> correct the driver's depth scale")
    assert lines[-1] == '1 error(s), 0 warning(s)'


def test_weights_with_another_sha256_than_the_manifests(tmp_path):
    (tmp_path / 'w.onnx').write_bytes(b'weights')
    (tmp_path / 'manifest.yaml').write_text(
        'models: [{name: mine, task: detection, backend: onnxruntime, architecture: none, '
        f'domain: real, file: w.onnx, sha256: {"f" * 64}, licence: Apache-2.0, '
        'classes: {1: thing}, input: {width: 8, height: 8}}]')
    need = machine.need_of('/detection', {
        'model': 'mine', 'manifest': str(tmp_path / 'manifest.yaml'), 'device': 'cpu'})
    assert 'are not the ones of the manifest' in need.model_problem
    assert machine.need_of('/x', {'map_frame': 'map', 'base_frame': ''}) == NeedFacts(
        '/x', ('map',), 0.1)


def test_shipped_weights_are_checked_where_they_are_there(monkeypatch):
    entries = machine.known_models()
    there = [name for name, entry in entries.items() if entry.path.is_file()]
    bad = replace(entries[there[0]], sha256='0' * 64)
    monkeypatch.setattr(machine, 'known_models', lambda: {**entries, there[0]: bad})
    need, = machine.shipped_models()
    assert need.model == there[0]
    assert 'are not the ones of the manifest' in need.model_problem


def test_segments_are_small_living_or_stale(tmp_path):
    """As Fast DDS leaves them: a living participant holds a lock beside its segment."""
    for name, size in (('fastrtps_00ff', 549_408), ('fastrtps_11ff', 17_564_192),
                       ('fastrtps_port7411', 99)):
        with (tmp_path / name).open('wb') as file:
            file.truncate(size)
        (tmp_path / f'{name}_el').touch()
    with (tmp_path / 'fastrtps_00ff_el').open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        inode = (tmp_path / 'fastrtps_00ff_el').stat().st_ino
        locks = tmp_path / 'locks'
        locks.write_text('1: POSIX  ADVISORY  READ 15418 fe:00:16041137 128 128\n'
                         f'2: FLOCK  ADVISORY  WRITE {os.getpid()} 00:1a:{inode} 0 EOF\n')
        living, stale = machine.segments(tmp_path, locks)
    assert (living.size_bytes, living.is_stale) == (549_408, False)
    assert living.owner.endswith(f'({os.getpid()})')
    assert (stale.size_bytes, stale.owner, stale.is_stale) == (17_564_192, '', True)
    unknown = machine.segments(tmp_path, tmp_path / 'none')
    assert [segment.is_stale for segment in unknown] == [False, False]


def test_arrivals_sum_up():
    arrivals = Arrivals()
    for k in range(5):
        arrivals.add(k * 100_000_000, 10 * k, 20_000_000)
    traffic = arrivals.traffic(until_ns=1_400_000_000)
    assert (traffic.count, traffic.largest_bytes) == (5, 40)
    assert traffic.rate_hz == pytest.approx(10.0)
    assert (traffic.median_period_s, traffic.longest_gap_s, traffic.lag_s) == pytest.approx(
        (0.1, 1.0, 0.02))
    assert Arrivals().traffic().rate_hz == 0.0


def moved(stamp_s, parent='odom', child='base'):
    return StampedTransform(parent, child, int(stamp_s * 1e9), (0, 0, 0), (0, 0, 0, 1))


def test_waiting_for_transforms_is_measured_and_given_up():
    watch = TransformWatch({'odom': 0.05})
    watch.add([moved(0.0)], static=False)
    watch.image('/image', 'base', 1_000_000_000, 1.0)
    watch.look(1.0)
    watch.add([moved(1.1)], static=False)
    watch.look(1.3)
    fact, = watch.facts(1.3)
    assert (fact.asked, fact.answered, fact.patience_s) == (1, 1, 0.05)
    assert fact.median_wait_s == pytest.approx(0.3)
    watch.image('/image', 'base', 5_000_000_000, 5.0)
    watch.look(5.0)
    watch.look(8.0)
    fact, = watch.facts(8.0)
    assert (fact.asked, fact.answered) == (2, 1)
    assert "the newest of 'odom' is 1.100 s" in fact.problem


@pytest.mark.slow
def test_the_doctor_needs_no_ros_for_a_bag(tmp_path):
    bag = write(tmp_path / 'bag', recording())
    code = ('import sys\n'
            'for name in ("rclpy", "std_msgs", "sensor_msgs"): sys.modules[name] = None\n'
            'from perception_nodes.cli.main import main\n'
            f'sys.exit(main(["doctor", "--bag", {str(bag)!r}]))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize('word', ['x', '/topic=0', '=3'])
def test_a_rate_is_a_topic_and_a_number(word):
    with pytest.raises(argparse.ArgumentTypeError):
        doctor._rate(word)

"""Each check on a snapshot that is known to be bad, and all of them on one that is good."""

from dataclasses import replace
import math

from perception_nodes.cli.diagnosis.checks import CHECKS, examine, refused_policy
from perception_nodes.cli.diagnosis.snapshot import (
    CameraFacts,
    ClockFacts,
    DepthFacts,
    Endpoint,
    ImageFacts,
    MachineFacts,
    NeedFacts,
    NodeFacts,
    Profile,
    Segment,
    Snapshot,
    Status,
    Topic,
    Traffic,
    TransformFacts,
)
import pytest

IMAGE, INFO = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo'
COLOUR, DEPTH = '/camera/color/image_raw', '/camera/depth/image_rect_raw'
OPTICAL = 'camera_color_optical_frame'
FLOW = Traffic(150, 5.0, 0.033, 0.04, 921_700, 0.01)
SENSOR, LATCHED = Profile('best_effort'), Profile(durability='transient_local')


def topic(name, kind=IMAGE, offer=SENSOR, request=SENSOR, traffic=FLOW):
    """Return a topic that the camera publishes and the detector hears."""
    return Topic(name, (Endpoint('/camera/driver', kind, offer),),
                 (Endpoint('/detection', kind, request),), traffic)


def snapshot(*topics, **facts):
    """Return a snapshot with these topics."""
    return Snapshot(topics={t.name: t for t in topics}, **facts)


def healthy():
    """Return a robot on which nothing is wrong."""
    clock = Topic('/clock', (Endpoint('/simulation', 'rosgraph_msgs/msg/Clock'),))
    return snapshot(
        topic(COLOUR), topic(DEPTH), topic('/camera/color/camera_info', INFO),
        topic('/camera/depth/camera_info', INFO), clock,
        topic('/detection/label_info', 'vision_msgs/msg/LabelInfo', LATCHED, LATCHED, None),
        nodes=(NodeFacts('/simulation', False), NodeFacts('/detection', True),
               NodeFacts('/rviz', None)),
        images={COLOUR: ImageFacts('rgb8', 640, 480, OPTICAL),
                DEPTH: ImageFacts('16UC1', 848, 480, 'depth', DepthFacts(1800.0, 0.9))},
        cameras={'/camera/color/camera_info': CameraFacts(640, 480, OPTICAL),
                 '/camera/depth/camera_info': CameraFacts(848, 480, 'depth')},
        frames={OPTICAL: 'base_link', 'depth': OPTICAL, 'base_link': 'odom'},
        transforms=(TransformFacts(COLOUR, OPTICAL, 'odom', 20, 20, 0.01),),
        clock=ClockFacts(500, 5.0, 5.0), needs=(NeedFacts('/detection', ('odom',)),),
        machine=MachineFacts(
            versions='ROS jazzy', gpu='never verified', shm_total_bytes=8 << 30,
            shm_free_bytes=7 << 30, segments=(Segment(17 << 20, 'driver (7)'),)),
        statuses=(Status('/detection', 'info', 'active'),), expected_hz={COLOUR: 30.0})


def told(bad, check):
    """Return what one check finds, and see to it that no other check does."""
    found = [f for f in examine(bad) if f.level != 'info']
    assert {f.check for f in found} == {check}, found
    assert all(f.fix and '\n' not in f.sentence + f.fix for f in found)
    return [(f.level, f.sentence, f.fix) for f in found]


def changed(**facts):
    """Return the healthy robot with some facts changed; topics are added to its own."""
    good = healthy()
    for name in ('topics', 'images', 'cameras', 'frames'):
        if name in facts:
            facts[name] = {**getattr(good, name), **facts[name]}
    return replace(good, **facts)


def test_a_healthy_robot_gets_the_versions_and_nothing_else():
    assert [f.check for f in examine(healthy())] == ['machine', 'machine']


def test_two_nodes_of_one_name():
    nodes = (*healthy().nodes[:1], NodeFacts('/detection', True, count=2))
    (level, sentence, fix), = told(changed(nodes=nodes), 'graph')
    assert level == 'warning'
    assert sentence.startswith('2 nodes are called /detection: ')
    assert '__node:=OTHER' in fix


def test_what_a_node_publishes_is_not_what_it_waits_for():
    bad = snapshot(
        Topic('/image', (), (Endpoint('/detection', IMAGE),)),
        Topic('/detection/debug_image', (Endpoint('/detection', IMAGE),)))
    (_, sentence, fix), = told(bad, 'publishers')
    assert sentence == 'nobody publishes /image, which /detection waits for'
    assert fix == f'start the node that publishes {IMAGE}'


@pytest.mark.parametrize('name', ['/goal_pose', '/plan', '/track/region'])
def test_what_somebody_may_send_is_not_missed(name):
    bad = changed(topics={name: Topic(name, (), (Endpoint('/navigation', 'nav_msgs/msg/Path'),))})
    assert [f.check for f in examine(bad)] == ['machine', 'machine']


def test_nobody_is_there():
    (level, sentence, fix), = told(Snapshot(), 'graph')
    assert (level, sentence) == ('error', 'nobody else is on this graph')
    assert 'ROS_DOMAIN_ID' in fix


def test_an_incompatible_qos_names_both_ends_and_profiles():
    bad = changed(topics={COLOUR: topic(COLOUR, request=Profile('reliable'))})
    (level, sentence, fix), = told(bad, 'qos')
    assert level == 'error'
    assert sentence == (
        f'{COLOUR}: /detection gets nothing from /camera/driver, because of reliability: offered '
        'is (best effort, volatile), asked for (reliable, volatile)')
    assert 'input_reliability: best_effort' in fix
    assert '/camera/driver offer reliable' in fix


@pytest.mark.parametrize(('offer', 'request_', 'policy'), [
    (Profile('reliable'), Profile('best_effort'), ''),
    (Profile('best_effort'), Profile('reliable'), 'reliability'),
    (Profile(), LATCHED, 'durability'),
    (LATCHED, Profile(), ''),
    (Profile(deadline_s=0.2), Profile(deadline_s=0.1), 'deadline'),
    (Profile(deadline_s=0.1), Profile(deadline_s=0.2), ''),
    (Profile(), Profile(deadline_s=1.0), 'deadline'),
    (Profile(), Profile(liveliness='manual_by_topic'), 'liveliness'),
    (Profile(liveliness='manual_by_topic'), Profile(), ''),
    (Profile(lease_s=2.0), Profile(lease_s=1.0), 'liveliness')])
def test_policies_are_compared_as_dds_does(offer, request_, policy):
    """OMG DDS 1.4, 2.2.3: what is offered must be at least what is asked for."""
    assert refused_policy(offer, request_) == policy


@pytest.mark.parametrize(('name', 'kind', 'level', 'fix'), [
    ('/camera/camera/color/image_raw', IMAGE, 'error', f'did you mean {COLOUR}?'),
    ('/image', IMAGE, 'error', 'of its type there is /camera/color/image_raw, /camera/depth/'),
    ('/scan', 'sensor_msgs/msg/LaserScan', 'error', 'start the node that publishes sensor_msgs'),
    ('/speech', 'std_msgs/msg/String', 'warning', 'start the node that publishes std_msgs')])
def test_a_topic_without_publisher_gets_near_names_of_its_type(name, kind, level, fix):
    lonely = Topic(name, (), (Endpoint('/detection', kind),))
    (found_level, sentence, found_fix), = told(changed(topics={name: lonely}), 'publishers')
    assert (found_level, sentence) == (
        level, f'nobody publishes {name}, which /detection waits for')
    assert fix in found_fix


def test_a_topic_with_two_types():
    bad = Topic('/result', (Endpoint('/a', IMAGE), Endpoint('/b', IMAGE)),
                (Endpoint('/c', 'sensor_msgs/msg/CompressedImage'),))
    (level, sentence, _), = told(changed(topics={'/result': bad}), 'types')
    assert level == 'error'
    assert 'sensor_msgs/msg/CompressedImage by /c; sensor_msgs/msg/Image by /a, /b' in sentence


@pytest.mark.parametrize(('traffic', 'level', 'words'), [
    (Traffic(0, 0.0), 'error', f'nothing came on {COLOUR}, which /camera/driver offers'),
    (Traffic(50, 5.0, 0.1, 0.2, 10), 'warning', 'comes 9.8 times a second, 30 are expected'),
    (Traffic(148, 4.9, 0.033, 2.4, 10), 'warning', 'paused for 2.4 s; it comes every 33 ms')])
def test_silent_slow_and_stalling_sensors(traffic, level, words):
    bad = changed(topics={COLOUR: topic(COLOUR, traffic=traffic)})
    (found, sentence, _), = told(bad, 'rates')
    assert found == level
    assert words in sentence


def test_the_rate_of_a_topic_that_does_not_exist():
    (level, _, fix), = told(changed(expected_hz={'/camera/color/image': 30.0}), 'rates')
    assert level == 'error'
    assert fix == f'did you mean {COLOUR}?'


@pytest.mark.parametrize(('lag_s', 'words'), [
    (3.24, f'the stamps of {COLOUR} are 3.2 s behind the clock'),
    (-0.5, f'the stamps of {COLOUR} are 0.5 s ahead of the clock')])
def test_stamps_of_another_time(lag_s, words):
    (level, sentence, _), = told(
        changed(topics={COLOUR: topic(COLOUR, traffic=replace(FLOW, lag_s=lag_s))}), 'stamps')
    assert (level, sentence) == ('warning', words)


@pytest.mark.parametrize(('name', 'image', 'words'), [
    (COLOUR, ImageFacts('yuv422', 640, 480, OPTICAL, problem="encoding 'yuv422'"),
     f"{COLOUR} cannot be read: encoding 'yuv422'"),
    (DEPTH, ImageFacts('mono16', 848, 480, 'depth'),
     f"{DEPTH} is named like depth, but its encoding is 'mono16'")])
def test_encodings(name, image, words):
    (level, sentence, _), = told(changed(images={name: image}), 'encodings')
    assert level == 'error'
    assert sentence.startswith(words)


@pytest.mark.parametrize(('encoding', 'depth', 'level', 'words'), [
    ('32FC1', DepthFacts(1800.0, 0.9), 'error', 'the numbers look like millimetres'),
    ('16UC1', DepthFacts(2.0, 0.9), 'error', 'the numbers look like metres'),
    ('16UC1', DepthFacts(65_000.0, 0.9), 'error', 'the numbers look like no millimetres'),
    ('32FC1', DepthFacts(0.001, 0.9), 'error', 'the numbers look like no metres'),
    ('16UC1', DepthFacts(math.nan, 0.0), 'warning', 'has readings in 0.0% of its pixels')])
def test_depth_units(encoding, depth, level, words):
    bad = ImageFacts(encoding, 848, 480, 'depth', depth)
    (found, sentence, _), = told(changed(images={DEPTH: bad}), 'depth_units')
    assert found == level
    assert words in sentence


@pytest.mark.parametrize(('camera', 'level', 'words'), [
    (CameraFacts(1280, 720, OPTICAL), 'error', 'is for 1280x720 pixels, /camera/color/image_raw '
     'has 640x480'),
    (CameraFacts(640, 480, 'camera_link'), 'warning', "has frame 'camera_link'"),
    (CameraFacts(640, 480, OPTICAL, 'fx=0.0'), 'error', '/camera/color/camera_info: fx=0.0')])
def test_camera_info_that_does_not_suit_its_image(camera, level, words):
    (found, sentence, _), = told(
        changed(cameras={'/camera/color/camera_info': camera}), 'camera_info')
    assert found == level
    assert words in sentence


def test_camera_info_that_is_missing():
    good = healthy()
    topics, cameras = dict(good.topics), dict(good.cameras)
    del topics['/camera/depth/camera_info'], cameras['/camera/depth/camera_info']
    (level, sentence, fix), = told(replace(good, topics=topics, cameras=cameras), 'camera_info')
    assert (level, sentence) == (
        'error', f'{DEPTH} has no camera_info on /camera/depth/camera_info; /camera/color/'
        f"camera_info is for 640x480 pixels in frame '{OPTICAL}'")
    assert fix.startswith('let the driver publish camera_info beside the image')


def test_a_camera_info_for_all_images_that_is_silent_is_said_once():
    good = healthy()
    topics = {**good.topics, '/camera/color/camera_info': topic(
        '/camera/color/camera_info', INFO, traffic=Traffic(0, 0.0))}
    del topics['/camera/depth/camera_info']
    (_, sentence, _), = told(replace(good, topics=topics, cameras={}), 'rates')
    assert sentence == 'nothing came on /camera/color/camera_info, which /camera/driver offers'


@pytest.mark.parametrize(('offer', 'checks'), [(LATCHED, []), (SENSOR, ['rates'])])
def test_what_came_once_is_enough_where_it_is_latched(offer, checks):
    traffic = Traffic(1, 0.0, longest_gap_s=5.0, lag_s=8.0 if offer is LATCHED else 0.0)
    once = topic('/camera/color/camera_info', INFO, offer, SENSOR, traffic)
    found = [f for f in examine(changed(topics={once.name: once})) if f.level != 'info']
    assert [f.check for f in found] == checks
    assert all(f.sentence == f'{once.name} paused for 5.0 s; it came once' for f in found)


def test_a_result_that_does_not_come_is_said_last():
    """Its node waits for something: that is the cause, and it may have said so itself."""
    scan = Topic('/detection/scan', (Endpoint('/detection', 'sensor_msgs/msg/LaserScan'),),
                 traffic=Traffic(0, 0.0))
    (level, sentence, fix), = told(changed(topics={'/detection/scan': scan}), 'results')
    assert (level, fix) == ('warning', 'mend what is found above first, then see its log')
    assert sentence.startswith('nothing came on /detection/scan, which /detection makes of')
    told(changed(topics={'/detection/scan': scan},
                 statuses=(Status('/detection', 'warning', 'no transform'),)), 'diagnostics')


def test_aligned_depth_takes_the_camera_info_of_colour():
    name = '/camera/aligned_depth_to_color/image_raw'
    image = ImageFacts('16UC1', 640, 480, OPTICAL, DepthFacts(1800.0, 0.9))
    assert [f for f in examine(changed(images={name: image})) if f.level != 'info'] == []


@pytest.mark.parametrize(('facts', 'level', 'words', 'fix'), [
    ({'answered': 0, 'problem': "nobody publishes frame 'base_link'"}, 'error',
     "none of 20 transforms from 'camera_color_optical_frame'", 'publish the missing frame'),
    ({'answered': 0, 'problem': "they are in two trees, under 'map' and 'base'"}, 'error',
     "to 'odom' could be had: they are in two trees", 'start the node that connects the two'),
    ({'answered': 12, 'problem': "the newest of 'odom' is 7.000 s"}, 'warning',
     'only 12 of 20 transforms', 'use_sim_time'),
    ({'answered': 20, 'median_wait_s': 0.18}, 'warning',
     'come 180 ms after their images; nodes wait 100 ms', 'set transform_timeout_ms to 250')])
def test_transforms(facts, level, words, fix):
    bad = replace(healthy().transforms[0], **facts)
    (found, sentence, found_fix), = told(changed(transforms=(bad,)), 'transforms')
    assert found == level
    assert words in sentence
    assert fix in found_fix


def test_a_camera_that_no_transform_names():
    image = ImageFacts('rgb8', 640, 480, 'other_frame')
    bad = changed(images={'/other/image_raw': image},
                  cameras={'/other/camera_info': CameraFacts(640, 480, 'other_frame')})
    (level, sentence, _), = told(bad, 'transforms')
    assert level == 'warning'
    assert "no transform names 'other_frame', the frame of /other/image_raw" in sentence


@pytest.mark.parametrize(('facts', 'level', 'words'), [
    ({'clock': ClockFacts()}, 'error', '/detection use simulated time, but /clock is silent'),
    ({'clock': ClockFacts(500, 0.0, 5.0)}, 'warning', '/clock ticks, but does not advance'),
    ({'clock': ClockFacts(51, 5.0, 5.0)}, 'warning', '/clock ticks 10 times a second'),
    ({'nodes': (NodeFacts('/detection', True), NodeFacts('/driver', False))}, 'error',
     '/clock is published, but /driver use the time of the machine while /detection follow'),
    ({'nodes': (NodeFacts('/driver', False),)}, 'warning', 'but /driver use the time')])
def test_clocks(facts, level, words):
    (found, sentence, _), = told(changed(**facts), 'clock')
    assert found == level
    assert words in sentence


def test_two_clocks_and_none():
    two = Topic('/clock', tuple(
        Endpoint(n, 'rosgraph_msgs/msg/Clock') for n in ('/play', '/simulation')))
    (level, sentence, _), = told(changed(topics={'/clock': two}), 'clock')
    assert (level, sentence) == ('error', '/clock has several publishers: /play, /simulation')
    good = healthy()
    none = {name: t for name, t in good.topics.items() if name != '/clock'}
    (_, sentence, _), = told(replace(good, topics=none, clock=ClockFacts()), 'clock')
    assert '/clock has no publisher: their time stands still' in sentence


@pytest.mark.parametrize(('facts', 'level', 'words'), [
    ({'shm_total_bytes': 64 << 20}, 'warning', '/dev/shm holds 64 MB: enough for 4 processes'),
    ({'shm_free_bytes': 3 << 20}, 'error', '/dev/shm has 3 MB left'),
    ({'segments': (Segment(549_408, 'driver (7)'), Segment(549_408, is_stale=True))}, 'warning',
     'the shared memory of driver (7) is smaller than one message of /camera/color/image_raw '
     '(0.9 MB)'),
    ({'segments': (Segment(100 << 20, is_stale=True),)}, 'warning',
     'dead processes hold 100 MB of /dev/shm'),
    ({'profile_problem': 'FASTRTPS_DEFAULT_PROFILES_FILE names /x, and there is no such file'},
     'warning', 'there is no such file')])
def test_transport(facts, level, words):
    bad = changed(machine=replace(healthy().machine, **facts))
    (found, sentence, _), = told(bad, 'transport')
    assert found == level
    assert words in sentence


def test_shared_memory_of_another_middleware_is_left_alone():
    other = replace(healthy().machine, rmw='rmw_cyclonedds_cpp', shm_total_bytes=64 << 20)
    assert [f.check for f in examine(changed(machine=other))] == ['machine', 'machine']


def test_models_and_devices():
    bad = (NeedFacts('/detection', model='x', model_problem='no file x; fetch it'),)
    (level, sentence, fix), = told(changed(needs=bad), 'models')
    assert (level, sentence, fix) == ('error', '/detection: no file x', 'fetch it')
    bad = (NeedFacts('/grasp', device='cuda:1', device_problem="device is 'cuda:1', alas"),)
    (level, sentence, fix), = told(changed(needs=bad), 'devices')
    assert (level, sentence) == ('error', "/grasp: device is 'cuda:1', alas")
    assert fix == "set device to 'auto' or 'cpu'"


def test_what_nodes_say_themselves_is_passed_on():
    bad = (Status('/detection', 'warning', "nothing arrives on '/image'"),)
    (level, sentence, _), = told(changed(statuses=bad), 'diagnostics')
    assert (level, sentence) == ('warning', "/detection says: nothing arrives on '/image'")


def test_bags():
    recorded = Topic('/words', (Endpoint('the recorder', 'std_msgs/msg/String'),))
    empty = Snapshot(is_bag=True, topics={'/words': recorded})
    (level, sentence, _), = told(empty, 'bag')
    assert (level, sentence) == ('error', 'the bag has no camera images; it has /words')
    good = replace(healthy(), is_bag=True)
    (level, sentence, _), = told(replace(good, damage=('cut off',)), 'bag')
    assert (level, sentence) == ('warning', 'cut off')
    static = Topic('/tf_static', (Endpoint('the recorder', 'tf2_msgs/msg/TFMessage'),))
    (level, sentence, _), = told(
        replace(good, topics={**good.topics, '/tf_static': static}), 'bag')
    assert level == 'warning'
    assert '/tf_static was recorded as volatile' in sentence


def test_every_check_is_explained(request):
    """docs/doctor.md has a row for each."""
    page = request.config.rootpath / 'docs' / 'doctor.md'
    text = page.read_text()
    assert [c.__name__ for c in CHECKS if f'| `{c.__name__}` |' not in text] == []

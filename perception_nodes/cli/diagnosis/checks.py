"""
What is wrong with a graph or a bag: each check is a function of a snapshot, and of nothing else.

Thresholds say at which point something is worth a word; docs/doctor.md lists them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Set
import difflib
from itertools import product
import math

from perception_nodes.cli.diagnosis.snapshot import (
    CAMERA_INFO,
    COMPRESSED,
    Endpoint,
    Finding,
    IMAGE,
    ImageFacts,
    Level,
    LEVELS,
    Profile,
    SENSOR_TYPES,
    Snapshot,
    Topic,
)

Findings = Iterator[Finding]

SLOW_SHARE = 0.8  # of the expected rate
STALL_PERIODS, STALL_S = 5.0, 1.0  # a gap as long as both is one
STALE_STAMP_S, FUTURE_STAMP_S = 1.0, 0.1
SLOW_CLOCK_HZ = 20.0
LITTLE_DEPTH = 0.05  # share of pixels with a reading
# medians outside these are not what cameras of robots see
PLAUSIBLE_DEPTH = {'16UC1': (50.0, 30_000.0), '32FC1': (0.05, 30.0)}
DEPTH_UNITS = {'16UC1': 'millimetres', '32FC1': 'metres'}
SMALL_SHM_BYTES = 128 << 20
SEGMENT_BYTES = 16 << 20  # what config/fastdds.xml asks for
STALE_BYTES = 64 << 20

_PROFILE = 'export FASTRTPS_DEFAULT_PROFILES_FILE=.../config/fastdds.xml'
# listened to for the case that somebody sends; clock and tf have checks of their own
_OPTIONAL = ('clock', 'parameter_events', 'tf', 'tf_static', 'initialpose', 'goal_pose', 'cmd_vel',
             'plan', 'region', 'depth_camera_info')


def examine(snapshot: Snapshot) -> list[Finding]:
    """Return what every check finds, worst first."""
    found = [finding for check in CHECKS for finding in check(snapshot)]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def graph(snapshot: Snapshot) -> Findings:
    """Find out whether there is anybody at all, and whether names are used twice."""
    if not snapshot.is_bag and not snapshot.nodes and not snapshot.topics:
        yield Finding(
            'error', 'graph', 'nobody else is on this graph', 'start the nodes, or set '
            'ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE as they have it')
    for node in snapshot.nodes:
        if node.count > 1:
            yield Finding(
                'warning', 'graph', f'{node.count} nodes are called {node.name}: each publishes, '
                'and only one of them answers', 'stop the one that was left running, or start one '
                'under another name: -r __node:=OTHER')


def qos(snapshot: Snapshot) -> Findings:
    """Find publishers and subscribers that never hear of each other."""
    for topic in snapshot.topics.values():
        for offer, request in product(topic.publishers, topic.subscribers):
            if policy := refused_policy(offer.qos, request.qos):
                yield Finding(
                    'error', 'qos',
                    f'{topic.name}: {request.node} gets nothing from {offer.node}, because of '
                    f'{policy}: offered is ({offer.qos}), asked for ({request.qos})',
                    _qos_fix(policy, offer, request))


def refused_policy(offer: Profile, request: Profile) -> str:
    """Return the first QoS policy by which a request exceeds an offer; empty if none does."""
    if (offer.reliability, request.reliability) == ('best_effort', 'reliable'):
        return 'reliability'
    if (offer.durability, request.durability) == ('volatile', 'transient_local'):
        return 'durability'
    if offer.deadline_s > request.deadline_s:
        return 'deadline'
    kinds = ('automatic', 'manual_by_topic')
    if (offer.liveliness in kinds and request.liveliness in kinds
            and kinds.index(offer.liveliness) < kinds.index(request.liveliness)):
        return 'liveliness'
    return 'liveliness' if offer.lease_s > request.lease_s else ''


def _qos_fix(policy: str, offer: Endpoint, request: Endpoint) -> str:
    ways = {
        'reliability': ('best effort (nodes of this suite: input_reliability: best_effort)',
                        'reliable'),
        'durability': ('volatile', 'transient local'),
        'deadline': ('no shorter deadline than the offered one', 'a shorter one'),
        'liveliness': ('no more than the offered liveliness', 'a stricter one')}
    asked, offered = ways[policy]
    return f'let {request.node} ask for {asked}, or {offer.node} offer {offered}'


def types(snapshot: Snapshot) -> Findings:
    """Find topics on which several types are spoken."""
    for topic in snapshot.topics.values():
        spoken = Counter(end.type_name for end in (*topic.publishers, *topic.subscribers))
        if len(spoken) > 1:
            who = '; '.join(
                f'{kind} by {", ".join(sorted({e.node for e in ends}))}' for kind in sorted(spoken)
                if (ends := [e for e in (*topic.publishers, *topic.subscribers)
                             if e.type_name == kind]))
            yield Finding(
                'error', 'types', f'{topic.name} is used with different types: {who}',
                'remap one of them; compressed images have a topic of their own, .../compressed')


def publishers(snapshot: Snapshot) -> Findings:
    """Find topics that somebody waits on in vain."""
    if snapshot.is_bag:
        return
    for topic in snapshot.topics.values():
        is_optional = topic.name.rpartition('/')[2] in _OPTIONAL
        if topic.publishers or not topic.subscribers or is_optional:
            continue
        waiters = {end.node for end in topic.subscribers}
        waiting = ', '.join(sorted(waiters))
        kind = topic.subscribers[0].type_name
        close, others = similar_topics(topic.name, kind, snapshot, waiters)
        level: Level = 'error' if close or kind in SENSOR_TYPES else 'warning'
        fix = f'start the node that publishes {kind}'
        if close:
            fix = f'did you mean {" or ".join(close)}? remap {topic.name}'
        elif others:
            fix = f'remap {topic.name}; of its type there is {", ".join(others)}'
        yield Finding(
            level, 'publishers', f'nobody publishes {topic.name}, which {waiting} waits for', fix)


def similar_topics(
    name: str, type_name: str, snapshot: Snapshot, waiters: Set[str]
) -> tuple[list[str], list[str]]:
    """
    Return published topics of a type whose names are near, nearest first, and up to five.

    :param waiters: Nodes whose own results are not what they wait for.
    """
    there = sorted(t.name for t in snapshot.topics.values()
                   if type_name in t.types and t.name != name
                   and any(end.node not in waiters for end in t.publishers))
    return difflib.get_close_matches(name, there, n=2, cutoff=0.7), there[:5]


def encodings(snapshot: Snapshot) -> Findings:
    """Find images that no node can read, and depth that is none."""
    for topic, image in snapshot.images.items():
        is_depth = is_depth_topic(topic)
        if image.problem:
            yield Finding('error', 'encodings', f'{topic} cannot be read: {image.problem}',
                          'let the driver publish ' + (
                              'depth as 16UC1 or 32FC1' if is_depth else 'rgb8 or bgr8'))
        elif is_depth and image.encoding not in PLAUSIBLE_DEPTH:
            yield Finding(
                'error', 'encodings',
                f"{topic} is named like depth, but its encoding is '{image.encoding}'",
                'remap depth to a topic in 16UC1 (millimetres) or 32FC1 (metres)')


def depth_units(snapshot: Snapshot) -> Findings:
    """Find depth in another unit than its encoding says, or with hardly a reading."""
    for topic, image in snapshot.images.items():
        if image.depth is None or image.encoding not in PLAUSIBLE_DEPTH:
            continue
        low, high = PLAUSIBLE_DEPTH[image.encoding]
        unit, median = DEPTH_UNITS[image.encoding], image.depth.median
        if image.depth.read_share < LITTLE_DEPTH:
            yield Finding(
                'warning', 'depth_units', f'{topic} has readings in '
                f'{image.depth.read_share:.1%} of its pixels',
                'uncover the camera, switch its projector on, or check its range')
        elif not low <= median <= high:
            other = 'metres' if unit == 'millimetres' else 'millimetres'
            likely = other if (median < low) == (unit == 'millimetres') else f'no {unit}'
            yield Finding(
                'error', 'depth_units',
                f'{topic} is {image.encoding}, which is {unit}, but half of it lies beyond '
                f'{median:g}: the numbers look like {likely}',
                f"correct the driver's depth scale (REP 118: {image.encoding} in {unit})")


def camera_info(snapshot: Snapshot) -> Findings:
    """Find camera images without intrinsics that suit them."""
    for topic, image in snapshot.images.items():
        name = _own_camera_info(topic, image, snapshot)
        if name not in snapshot.cameras:
            yield from _missing_camera_info(topic, name, snapshot)
            continue
        camera = snapshot.cameras[name]
        if camera.problem:
            yield Finding('error', 'camera_info', f'{name}: {camera.problem}',
                          'calibrate the camera, and let its driver load the file')
        elif image.width and (camera.width, camera.height) != (image.width, image.height):
            yield Finding(
                'error', 'camera_info',
                f'{name} is for {camera.width}x{camera.height} pixels, {topic} has '
                f'{image.width}x{image.height}', 'remap camera_info to the one of this image')
        if camera.frame_id != image.frame_id:
            yield Finding(
                'warning', 'camera_info', f"{name} has frame '{camera.frame_id}', {topic} "
                f"'{image.frame_id}'", 'give both the same frame_id in the driver')


def _missing_camera_info(topic: str, name: str, snapshot: Snapshot) -> Findings:
    there = [t.name for t in snapshot.topics.values() if CAMERA_INFO in t.types]
    if name in there:  # silent: said by rates
        return
    close = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    nearest = snapshot.cameras.get(close[0]) if close else None
    if close and nearest is None:  # the one for all of them is silent: the same
        return
    other = f'; {close[0]} is for {nearest.width}x{nearest.height} pixels in frame ' \
        f"'{nearest.frame_id}'" if nearest else ''
    yield Finding(
        'error' if is_depth_topic(topic) else 'warning', 'camera_info',
        f'{topic} has no camera_info on {name}{other}',
        'let the driver publish camera_info beside the image; depth is of no use without')


def _own_camera_info(topic: str, image: ImageFacts, snapshot: Snapshot) -> str:
    """Return the camera_info beside an image, or one that suits it: aligned depth has no own."""
    beside = camera_info_topic(topic)
    suiting = [name for name, c in snapshot.cameras.items()
               if (c.frame_id, c.width, c.height) == (image.frame_id, image.width, image.height)]
    return suiting[0] if beside not in snapshot.cameras and suiting else beside


def camera_info_topic(image_topic: str) -> str:
    """Return where drivers put the intrinsics of an image topic: beside it."""
    return f'{base_of(image_topic).rpartition("/")[0]}/camera_info'


def base_of(image_topic: str) -> str:
    """Return an image topic without the name of its transport."""
    for ending in ('/compressedDepth', '/compressed'):
        image_topic = image_topic.removesuffix(ending)
    return image_topic


def is_depth_topic(topic: str) -> bool:
    """Return whether a topic's name says that it carries depth."""
    return 'depth' in base_of(topic).lower()


def is_camera_topic(topic: str) -> bool:
    """Return whether a topic's name is one that drivers give to images, not a node's result."""
    last = base_of(topic).rpartition('/')[2]
    return last.startswith(('image', 'depth'))


def transforms(snapshot: Snapshot) -> Findings:
    """Find links that are missing, and transforms that come late or for another time."""
    for t in snapshot.transforms:
        path = f"from '{t.source}' ({t.topic}) to '{t.target}'"
        if t.answered < t.asked:
            share = 'none' if not t.answered else f'only {t.answered}'
            yield Finding(
                'error' if t.answered == 0 else 'warning', 'transforms',
                f'{share} of {t.asked} transforms {path} could be had: {t.problem}',
                _transform_fix(t.problem, t.source))
        elif t.median_wait_s > t.patience_s:
            wait_ms = t.median_wait_s * 1e3
            yield Finding(
                'warning', 'transforms', f'transforms {path} come {wait_ms:.0f} ms after their '
                f'images; nodes wait {t.patience_s * 1e3:.0f} ms',
                f'set transform_timeout_ms to {math.ceil(wait_ms / 50.0) * 50 + 50}, or speed up '
                f"the publisher of '{t.target}'")
    if not snapshot.frames:
        return
    known = set(snapshot.frames) | set(snapshot.frames.values())
    told = {t.source for t in snapshot.transforms}
    for topic, image in snapshot.images.items():
        if image.frame_id not in known | told:
            told.add(image.frame_id)
            yield Finding(
                'warning', 'transforms', f"no transform names '{image.frame_id}', the frame of "
                f'{topic}', f"publish a static transform from the robot to '{image.frame_id}'")


def _transform_fix(problem: str, source: str) -> str:
    if 'ignored' in problem:
        return 'let its publisher send numbers that are finite and quaternions of length 1'
    if 'nobody publishes frame' in problem:
        return 'publish the missing frame (robot_state_publisher, static_transform_publisher)'
    if 'two trees' in problem:
        return 'start the node that connects the two (localisation, odometry, robot description)'
    if 'the newest' in problem or 'the oldest' in problem:
        return 'give images and transforms one clock: use_sim_time everywhere, or synchronise'
    if 'loop' in problem or 'two parents' in problem:
        return 'stop one of the nodes that publish contradicting transforms'
    return f"publish /tf and /tf_static down to '{source}'"


def clock(snapshot: Snapshot) -> Findings:
    """Find nodes that live in different times."""
    if snapshot.is_bag:
        return
    topic = snapshot.topics.get('/clock', Topic('/clock'))
    sources = {end.node for end in topic.publishers}
    others = [node for node in snapshot.nodes if node.name not in sources]
    simulated = sorted(node.name for node in others if node.use_sim_time)
    real = sorted(node.name for node in others if node.use_sim_time is False)
    ticks = snapshot.clock
    if len(sources) > 1:
        yield Finding('error', 'clock', f'/clock has several publishers: '
                      f'{", ".join(sorted(sources))}', 'stop all but one')
    if simulated and not ticks.count:
        state = 'is silent' if sources else 'has no publisher'
        yield Finding(
            'error', 'clock', f'{", ".join(simulated)} use simulated time, but /clock {state}: '
            'their time stands still', 'start the simulator, play the bag with --clock, or set '
            'use_sim_time to false')
    if ticks.count and ticks.span_s > 0.0 and not ticks.advanced_s:
        yield Finding('warning', 'clock', '/clock ticks, but does not advance',
                      'resume the simulation or the bag')
    elif ticks.count > 1 and ticks.count - 1 < SLOW_CLOCK_HZ * ticks.span_s:
        yield Finding(
            'warning', 'clock', f'/clock ticks {(ticks.count - 1) / ticks.span_s:.0f} times a '
            'second: stamps are as coarse', 'let it tick 100 times a second or more')
    if sources and real:
        yield Finding(
            'error' if simulated else 'warning', 'clock',
            f'/clock is published, but {", ".join(real)} use the time of the machine'
            + (f' while {", ".join(simulated)} follow /clock' if simulated else ''),
            'set use_sim_time to true for every node (launch argument use_sim_time:=true)')


def rates(snapshot: Snapshot) -> Findings:
    """Find sensors that are silent, slow or stall."""
    for name, topic in snapshot.topics.items():
        traffic = topic.traffic
        if traffic is None:
            continue
        if not traffic.count:
            if set(topic.types) & set(SENSOR_TYPES) and not _is_result(topic, snapshot):
                who = ', '.join(sorted({end.node for end in topic.publishers})) or 'the bag'
                yield Finding(
                    'error', 'rates', f'nothing came on {name}, which {who} offers',
                    'is the camera streaming, the node active, the bag not paused? '
                    f'Large images also need {_PROFILE}')
            continue
        expected_hz = snapshot.expected_hz.get(name)
        if expected_hz and traffic.rate_hz < SLOW_SHARE * expected_hz:
            yield Finding(
                'warning', 'rates', f'{name} comes {traffic.rate_hz:.1f} times a second, '
                f'{expected_hz:g} are expected', 'lower resolution or load, check the cable, or '
                + _PROFILE)
        gap_s, period_s = traffic.longest_gap_s, traffic.median_period_s
        if _is_latched(topic):  # who comes later has it all the same
            continue
        if set(topic.types) & set(SENSOR_TYPES) and gap_s > max(STALL_S, STALL_PERIODS * period_s):
            often = f'it comes every {period_s * 1e3:.0f} ms otherwise'
            yield Finding(
                'warning', 'rates', f'{name} paused for {gap_s:.1f} s; '
                f"{'it came once' if math.isnan(period_s) else often}",
                'look for what blocks its publisher or the machine at that time')
    for name in snapshot.expected_hz:
        if name not in snapshot.topics:
            close = difflib.get_close_matches(name, snapshot.topics, n=1)
            yield Finding('error', 'rates', f'there is no topic {name}, of which a rate is '
                          'expected', f'did you mean {close[0]}?' if close else 'start its node')


def results(snapshot: Snapshot) -> Findings:
    """Find results that do not come; why is said before, or by their nodes."""
    for name, topic in snapshot.topics.items():
        if topic.traffic is None or topic.traffic.count or not _is_result(topic, snapshot):
            continue
        makers = {end.node for end in topic.publishers}
        if not any(s.name in makers and s.level != 'info' for s in snapshot.statuses):
            yield Finding(
                'warning', 'results', f'nothing came on {name}, which {", ".join(sorted(makers))} '
                'makes of other messages', 'mend what is found above first, then see its log')


def _is_latched(topic: Topic) -> bool:
    return bool(topic.publishers) and all(
        end.qos.durability == 'transient_local' for end in topic.publishers)


def _is_result(topic: Topic, snapshot: Snapshot) -> bool:
    """Return whether all who publish a topic make it of what sensors send."""
    listeners = {end.node for t in snapshot.topics.values() for end in t.subscribers
                 if end.type_name in SENSOR_TYPES}
    ours = {need.node for need in snapshot.needs if need.frames or need.model}
    makers = {end.node for end in topic.publishers}
    return bool(makers) and makers <= listeners | ours


def stamps(snapshot: Snapshot) -> Findings:
    """Find header stamps far from the time at which their messages came."""
    for name, topic in snapshot.topics.items():
        lag_s = topic.traffic.lag_s if topic.traffic else math.nan
        if lag_s < -FUTURE_STAMP_S or lag_s > STALE_STAMP_S and not _is_latched(topic):
            side = 'behind' if lag_s > 0.0 else 'ahead of'
            yield Finding(
                'warning', 'stamps', f'the stamps of {name} are {abs(lag_s):.1f} s {side} the '
                'clock' + (' of the recorder' if snapshot.is_bag else ''),
                "let the driver stamp with ROS time, and synchronise the machines' clocks")


def transport(snapshot: Snapshot) -> Findings:
    """Find shared memory that is too small for images."""
    machine = snapshot.machine
    if snapshot.is_bag or machine.rmw != 'rmw_fastrtps_cpp':
        return
    if machine.profile_problem:
        yield Finding('warning', 'transport', machine.profile_problem,
                      'unset FASTRTPS_DEFAULT_PROFILES_FILE, or name a file that exists')
    if machine.shm_total_bytes and machine.shm_total_bytes < SMALL_SHM_BYTES:
        yield Finding(
            'warning', 'transport', f'/dev/shm holds {machine.shm_total_bytes >> 20} MB: enough '
            f'for {machine.shm_total_bytes // SEGMENT_BYTES} processes that exchange images',
            'start the container with --shm-size=1g or --ipc=host')
    elif machine.shm_total_bytes and machine.shm_free_bytes < SEGMENT_BYTES:
        yield Finding(
            'error', 'transport', f'/dev/shm has {machine.shm_free_bytes >> 20} MB left: the next '
            'process has no room for its images', 'stop all nodes and remove /dev/shm/fastrtps_*')
    stale = sum(s.size_bytes for s in machine.segments if s.is_stale)
    if stale > STALE_BYTES:
        yield Finding(
            'warning', 'transport', f'dead processes hold {stale >> 20} MB of /dev/shm',
            'stop all nodes and remove /dev/shm/fastrtps_*')
    sizes = {t.name: t.traffic.largest_bytes for t in snapshot.topics.values()
             if t.traffic and set(t.types) & {IMAGE, COMPRESSED, 'sensor_msgs/msg/PointCloud2'}}
    largest = max(sizes, key=lambda name: sizes[name], default='')
    small = sorted({s.owner or 'a process that is not known here' for s in machine.segments
                    if not s.is_stale and largest and s.size_bytes < sizes[largest]})
    if small:
        yield Finding(
            'warning', 'transport', f'the shared memory of {", ".join(small)} is smaller than one '
            f'message of {largest} ({sizes[largest] / 1e6:.1f} MB): what it publishes of that '
            'size is lost or late', f'{_PROFILE} before starting it')


def models(snapshot: Snapshot) -> Findings:
    """Find weights that are not there, or not the ones meant."""
    for need in snapshot.needs:
        if need.model_problem:
            sentence, _, fix = need.model_problem.partition('; ')
            yield Finding('error', 'models', f'{need.node}: {sentence}',
                          fix or 'correct the parameters model and manifest')


def devices(snapshot: Snapshot) -> Findings:
    """Find GPUs asked for that are not there."""
    for need in snapshot.needs:
        if need.device_problem:
            sentence, _, fix = need.device_problem.partition('; ')
            yield Finding('error', 'devices', f'{need.node}: {sentence}',
                          fix or "set device to 'auto' or 'cpu'")


def diagnostics(snapshot: Snapshot) -> Findings:
    """Pass on what nodes say about themselves."""
    for status in snapshot.statuses:
        if status.level != 'info':
            yield Finding(status.level, 'diagnostics', f'{status.name} says: {status.message}',
                          'ros2 topic echo /diagnostics shows its figures')


def bag(snapshot: Snapshot) -> Findings:
    """Find bags that are damaged, or hold nothing to look at."""
    if not snapshot.is_bag:
        return
    for sentence in snapshot.damage:
        yield Finding('warning', 'bag', sentence,
                      'nothing is lost that was read; record with perception record')
    if not any(is_camera_topic(name) and set(t.types) & {IMAGE, COMPRESSED}
               for name, t in snapshot.topics.items()):
        there = ', '.join(snapshot.topics) or 'nothing'
        yield Finding('error', 'bag', f'the bag has no camera images; it has {there}',
                      'record the image topics of the camera')
    static = snapshot.topics.get('/tf_static')
    if static and any(end.qos.durability == 'volatile' for end in static.publishers):
        yield Finding('warning', 'bag', '/tf_static was recorded as volatile: nodes that start '
                      'after its first message miss it', 'record it again, transient local')


def machine(snapshot: Snapshot) -> Findings:
    """Tell what this machine runs."""
    if snapshot.machine.versions:
        yield Finding('info', 'machine', snapshot.machine.versions)
    if snapshot.machine.gpu:
        yield Finding('info', 'machine', f'networks on a GPU: {snapshot.machine.gpu}')


CHECKS: tuple[Callable[[Snapshot], Findings], ...] = (
    bag, graph, publishers, types, qos, rates, stamps, encodings, depth_units, camera_info,
    transforms, clock, transport, models, devices, diagnostics, results, machine)

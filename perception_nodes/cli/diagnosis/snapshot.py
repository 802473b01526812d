"""What a doctor knows of a graph or a bag at one moment: plain facts, for checks to judge."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import math
from typing import Literal

Level = Literal['error', 'warning', 'info']
LEVELS: tuple[Level, ...] = ('error', 'warning', 'info')  # worst first

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
# what sensors send all the time: silence on these is worth a word
SENSOR_TYPES = (
    IMAGE, COMPRESSED, CAMERA_INFO, 'sensor_msgs/msg/LaserScan', 'sensor_msgs/msg/Imu',
    'sensor_msgs/msg/PointCloud2', 'nav_msgs/msg/Odometry')


@dataclass(frozen=True)
class Finding:
    """One thing a doctor says: what is wrong, and what to do."""

    level: Level
    check: str  # as in docs/doctor.md
    sentence: str
    fix: str = ''


@dataclass(frozen=True)
class Profile:
    """The part of a QoS profile that decides whether two ends of a topic talk to each other."""

    reliability: str = 'reliable'  # or best_effort
    durability: str = 'volatile'  # or transient_local
    deadline_s: float = math.inf
    liveliness: str = 'automatic'  # or manual_by_topic
    lease_s: float = math.inf

    def __str__(self) -> str:
        words = [self.reliability.replace('_', ' '), self.durability.replace('_', ' ')]
        if math.isfinite(self.deadline_s):
            words.append(f'deadline {self.deadline_s:g} s')
        if self.liveliness != 'automatic' or math.isfinite(self.lease_s):
            words.append(f'liveliness {self.liveliness.replace("_", " ")} {self.lease_s:g} s')
        return ', '.join(words)


@dataclass(frozen=True)
class Endpoint:
    """One publisher or subscriber of a topic."""

    node: str  # full name
    type_name: str  # package/msg/Name
    qos: Profile = field(default_factory=Profile)


@dataclass(frozen=True)
class Traffic:
    """What came on one topic."""

    count: int
    span_s: float  # from the first to the last
    median_period_s: float = math.nan
    longest_gap_s: float = 0.0
    largest_bytes: int = 0
    # how far header stamps lay behind the clock on arrival, in the median; NaN without headers
    lag_s: float = math.nan

    @property
    def rate_hz(self) -> float:
        """Return messages per second between the first and the last."""
        return (self.count - 1) / self.span_s if self.span_s > 0.0 else 0.0


@dataclass(frozen=True)
class Topic:
    """Who talks on a topic, and what came while somebody listened."""

    name: str
    publishers: tuple[Endpoint, ...] = ()
    subscribers: tuple[Endpoint, ...] = ()
    traffic: Traffic | None = None  # None: nobody listened for the doctor

    @property
    def types(self) -> tuple[str, ...]:
        """Return the message types of its publishers, in alphabetical order."""
        return tuple(sorted({end.type_name for end in self.publishers}))


@dataclass(frozen=True)
class DepthFacts:
    """What the numbers of a depth image are like."""

    median: float  # of the readings, as they stand in the message; NaN without any
    read_share: float  # of the pixels


@dataclass(frozen=True)
class ImageFacts:
    """One message of an image topic."""

    encoding: str  # of compressed images: the format
    width: int
    height: int
    frame_id: str
    depth: DepthFacts | None = None  # of one-channel images that could be depth
    problem: str = ''  # why it cannot be decoded


@dataclass(frozen=True)
class CameraFacts:
    """One camera_info."""

    width: int
    height: int
    frame_id: str
    problem: str = ''  # why no camera can be made of it


@dataclass(frozen=True)
class NodeFacts:
    """One node."""

    name: str  # full name
    use_sim_time: bool | None = None  # None: it does not tell
    count: int = 1  # how many are called so


@dataclass(frozen=True)
class ClockFacts:
    """What came on /clock."""

    count: int = 0
    advanced_s: float = 0.0
    span_s: float = 0.0  # by the doctor's own clock


@dataclass(frozen=True)
class TransformFacts:
    """What became of the question where the frame of some images is, at their stamps."""

    topic: str
    source: str  # frame of the images
    target: str
    asked: int
    answered: int
    median_wait_s: float = 0.0  # from an image to its transform
    patience_s: float = 0.1  # how long nodes wait
    problem: str = ''  # the last one, where some were not answered


@dataclass(frozen=True)
class NeedFacts:
    """What a node of the suite asks for by its parameters."""

    node: str
    frames: tuple[str, ...] = ()
    patience_s: float = 0.1
    model: str = ''
    model_problem: str = ''
    device: str = 'auto'
    device_problem: str = ''


@dataclass(frozen=True)
class Segment:
    """A shared-memory segment that Fast DDS has made for one participant."""

    size_bytes: int
    owner: str = ''  # name of the process; empty: not known
    is_stale: bool = False  # its process is dead


@dataclass(frozen=True)
class MachineFacts:
    """The machine that the doctor runs on."""

    versions: str = ''  # ROS, RMW, Python and so on in one line
    gpu: str = ''  # when the networks were last seen to work on one
    rmw: str = 'rmw_fastrtps_cpp'
    shm_total_bytes: int = 0  # 0: not known
    shm_free_bytes: int = 0
    segments: tuple[Segment, ...] = ()
    profile_problem: str = ''  # of FASTRTPS_DEFAULT_PROFILES_FILE


@dataclass(frozen=True)
class Status:
    """What a node says of itself on /diagnostics."""

    name: str
    level: Level
    message: str


@dataclass(frozen=True)
class Snapshot:
    """All of it."""

    is_bag: bool = False
    topics: Mapping[str, Topic] = field(default_factory=dict)
    nodes: tuple[NodeFacts, ...] = ()
    images: Mapping[str, ImageFacts] = field(default_factory=dict)  # by topic
    cameras: Mapping[str, CameraFacts] = field(default_factory=dict)  # by camera_info topic
    frames: Mapping[str, str] = field(default_factory=dict)  # child to parent, of /tf
    transforms: tuple[TransformFacts, ...] = ()
    clock: ClockFacts = ClockFacts()
    needs: tuple[NeedFacts, ...] = ()
    machine: MachineFacts = MachineFacts()
    statuses: tuple[Status, ...] = ()
    expected_hz: Mapping[str, float] = field(default_factory=dict)  # by topic
    damage: tuple[str, ...] = ()  # of a bag

"""
What each node can be told, put together from the parameters of what it does.

It stands here, without ROS, because the evaluation of bags takes the same parameters.
"""

from dataclasses import dataclass

from perception_nodes.core.detection import DetectionParams
from perception_nodes.core.detection_3d import Detection3DParams
from perception_nodes.core.grasping import GraspParams
from perception_nodes.core.params import param, Params
from perception_nodes.core.tracking import TrackingParams

# of ROS, of the container, of a launch file: values that reach every node of a process
_OF_THE_PROCESS = ('use_sim_time', 'start_type_description_service', 'nodes', 'autostart')
_OVERRIDES = 'qos_overrides.'  # of ROS, each with the name of a topic behind it


def is_of_the_process(name: str) -> bool:
    """Return whether any node may be given a parameter, also where it does not declare it."""
    return name in _OF_THE_PROCESS or name.startswith(_OVERRIDES)


@dataclass(frozen=True, kw_only=True)
class LifecycleParams(Params):
    """Parameters that every node with a lifecycle has."""

    autostart: bool = param(
        True, 'Configure and activate at once; set false under a lifecycle manager.')


@dataclass(frozen=True, kw_only=True)
class NodeParams(LifecycleParams):
    """Parameters that every node on a camera has."""

    cameras: tuple[str, ...] = param(
        (), 'Names of several cameras that share this node: inputs NAME/image..., outputs '
        '~/NAME/...; empty for one camera without a name.')
    image_transport: str = param(
        'raw', 'How colour images come; compressed takes the topic NAME/compressed.',
        choices=('raw', 'compressed'))
    depth_image_transport: str = param(
        'raw', 'How depth images come; compressedDepth takes the topic NAME/compressedDepth.',
        choices=('raw', 'compressedDepth'))
    input_reliability: str = param(
        'best_effort', 'QoS asked of the camera; reliable only suits reliable publishers.',
        choices=('best_effort', 'reliable'))
    sync_tolerance_ms: float = param(
        20.0, 'How far a depth image may lie from its colour image in time.', unit='ms', ge=0.0)
    transform_timeout_ms: float = param(
        100.0, 'How long a frame waits for its transform.', unit='ms', ge=0.0)
    zero_depth_means: str = param(
        'unknown', 'What a zero in 16UC1 depth stands for.', choices=('unknown', 'beyond_range'))


@dataclass(frozen=True, kw_only=True)
class DetectionNodeParams(TrackingParams, Detection3DParams, DetectionParams):
    """Parameters of the detection node: boxes in the image, in space, and their numbers."""


@dataclass(frozen=True, kw_only=True)
class GraspNodeParams(GraspParams):
    """Parameters of the grasp node: the gripper, what judges grasps, and where the camera is."""

    model: str = param(
        'grasp_scorer', 'Network that judges or finds grasps, by its name in the manifest; empty: '
        'the geometry alone.')
    fallback_model: str = param(
        'grasp_cascade', 'Network that finds grasps where there are none otherwise; empty: none.')
    manifest: str = param(
        '', 'Path of your own manifest.yaml, searched before the shipped one.')
    target_frame: str = param('', "Frame of the grasps; empty for the camera's.")
    gravity_frame: str = param(
        '', 'Frame whose z axis points up; empty for target_frame, and if that is empty too, the '
        'largest plane in sight is the support.')
    scale_depth: bool = param(
        False, 'Whether depth is scaled to agree with support_height_m.')
    support_height_m: float = param(
        0.0, 'Height of the support plane in gravity_frame, for scale_depth.', unit='m')
    use_detections: bool = param(
        False, 'Whether each frame waits for its boxes on the topic detections, which name what '
        'is grasped.')
    continuous: bool = param(
        True, 'Whether every frame is planned on; false plans only when ~/plan is called.',
        dynamic=True)

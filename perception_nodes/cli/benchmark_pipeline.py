"""
Whether the simulated robot keeps real time beside a working detector, on one core.

One container process, held on one core, simulates and detects; this process, on another where
there is one, subscribes to what a robot would use. Depth and colour are handed over inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import tempfile
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
import numpy as np
from perception_nodes.cli.processes import Child, use_private_graph
from perception_nodes.ros.session import Session
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import LaserScan
from tf2_msgs.msg import TFMessage

_START_S = 60.0  # the kernels may have to be compiled first
_SETTLE = 3  # reports before measuring


@dataclass(frozen=True)
class Setting:
    """A size and rate of the pictures, and what draws them."""

    name: str
    renderer: str
    width: int
    height: int
    rate_hz: float


def settings(with_egl: bool) -> list[Setting]:
    """Return what the benchmark tries."""
    rays = [Setting('rays', 'rays', 320, 240, 10.0), Setting('rays_5hz', 'rays', 320, 240, 5.0),
            Setting('rays_160x120', 'rays', 160, 120, 10.0)]
    return [*([Setting('egl', 'egl', 320, 240, 10.0)] if with_egl else []), *rays]


def on_one_core(tried: Setting, reports: int) -> dict[str, float]:
    """
    Return the real time factor and the detector's rate, as medians over reports of a second.

    :raises OSError: If the container ends.
    """
    use_private_graph()
    with tempfile.TemporaryDirectory() as folder, Child(
            'container', _command(tried), Path(folder) / 'log') as container:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(container.pid, {cores[-1]})
        with Session('benchmark_pipeline') as session:
            arrays: list[DiagnosticArray] = []
            listen = session.node.create_subscription
            listen(DiagnosticArray, '/diagnostics', arrays.append, 10)
            for kind, topic in ((LaserScan, '/scan'), (Odometry, '/odom'), (TFMessage, '/tf')):
                listen(kind, topic, lambda msg: None, qos_profile_sensor_data)
            factors: Sequence[float] = ()
            deadline = time.monotonic() + _START_S + reports
            while len(factors) < _SETTLE + reports and time.monotonic() < deadline:
                container.check()
                time.sleep(0.2)
                factors = _figures(arrays, '/simulation', 'real_time_factor')
        rates = _figures(arrays, '/detection', 'rate_hz')
    return {f'one_core_{tried.name}_real_time_factor': _median(factors),
            f'one_core_{tried.name}_detection_hz': _median(rates)}


def _command(tried: Setting) -> list[str]:
    words = ['perception_nodes.ros.container', '--ros-args', '-p', 'use_sim_time:=true',
             '-p', 'perception_container:nodes:=[simulation, detection]',
             '-p', 'detection:boxes_3d:=depth']
    values: dict[str, Any] = {
        'renderer': tried.renderer, 'camera_width': tried.width, 'camera_height': tried.height,
        'camera_rate_hz': tried.rate_hz}
    for name, value in values.items():
        words += ['-p', f'simulation:{name}:={value}']
    for name, topic in (('image', 'color/image_raw'), ('camera_info', 'color/camera_info'),
                        ('depth', 'aligned_depth_to_color/image_raw')):
        words += ['-r', f'{name}:=/camera/{topic}']
    return words


def _figures(arrays: Sequence[DiagnosticArray], node: str, key: str) -> list[float]:
    return [float(v.value) for array in tuple(arrays) for status in array.status
            if status.name == node for v in status.values if v.key == key]


def _median(values: Sequence[float]) -> float:
    return float(np.median(values[_SETTLE:])) if len(values) > _SETTLE else float('nan')

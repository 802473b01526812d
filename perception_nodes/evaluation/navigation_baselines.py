"""
Ways to drive to a goal that nobody has to train, to compare learned ones with.

All satisfy :class:`perception_nodes.core.protocols.NavigationPolicy`.
"""

from dataclasses import replace
import math

import numpy as np
from perception_nodes.core.dynamic_window import best_arc
from perception_nodes.core.navigation import NavigationObservation
from perception_nodes.core.navigation_rules import commands_of, innate_actions
from perception_nodes.core.rolling_map import RollingMap
from perception_nodes.core.types import VelocityCommand


class StraightLine:
    """Turns towards the goal and drives; what stands in between is the safety layer's."""

    def act(
        self, observation: NavigationObservation, state: None
    ) -> tuple[VelocityCommand, None]:
        """Return full speed at the goal, less where it is not ahead."""
        bearing, limits = observation.goal_bearing_rad, observation.limits
        turn = min(limits.turn_rps, max(-limits.turn_rps, 2.0 * bearing))
        ahead = limits.ahead_mps * max(0.0, math.cos(bearing)) ** 3
        return VelocityCommand(ahead, turn), None


class InnateRule:
    """The goal's pull and the obstacles' push, which learned policies may be corrections of."""

    def act(
        self, observation: NavigationObservation, state: None
    ) -> tuple[VelocityCommand, None]:
        """Return where both together lead."""
        newest = replace(observation, ranges_m=observation.ranges_m[:1]).vector()[None]
        actions = innate_actions(newest, observation.reach_m).astype(np.float64)
        v, w = commands_of(actions, observation.limits)[0].tolist()
        return VelocityCommand(v, w), None


class PlannedWindow:
    """
    The dynamic window down the potential of a planner.

    A map that rolls along in odom holds what scans have shown; Dijkstra's algorithm tells from
    each cell how far the goal is. It is no map-less method.
    """

    def act(
        self, observation: NavigationObservation, state: RollingMap | None
    ) -> tuple[VelocityCommand, RollingMap]:
        """Return the best arc, and the map."""
        x, y, yaw = observation.odom_from_base
        rolling = state or RollingMap(x, y)
        rolling.take(observation)
        command = best_arc(observation, rolling.clearances_m(), rolling.corner_m, (x, y, yaw),
                           rolling.goal_xy_m, rolling.potential_m)
        return command, rolling

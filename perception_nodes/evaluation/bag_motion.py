"""What a robot did in a bag: the goals it was given, what it reached, and what it touched."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from perception_nodes.core.transforms import TransformError
from perception_nodes.evaluation.bag_frames import BagTransforms
from perception_nodes.evaluation.bag_notes import BagNotes, Truth
from perception_nodes.evaluation.bag_page import Findings, PageSection
from perception_nodes.evaluation.model_page import Table

_REACHED_M = 0.35  # of the true position from the goal: the shipped tolerance and a cell more


@dataclass(frozen=True)
class GoalOutcome:
    """What became of one goal."""

    reached: bool
    nearest_m: float
    time_s: float  # until it was reached, or to the next goal or the end
    contacts: int


def goal_outcomes(
    truth: Truth, goals: Sequence[tuple[int, float, float]], reached_m: float = _REACHED_M
) -> list[GoalOutcome]:
    """
    Judge a drive by where the robot truly was.

    What belongs together is told by the recorder's clock, how long it took by the robot's own.

    :param goals: When each was recorded, nanoseconds, and its x and y in metres in the frame of
        the true places.
    """
    received = np.array([at for at, _, _, _ in truth.places], np.int64)
    stamps = np.array([stamp for _, stamp, _, _ in truth.places], np.int64)
    places = np.array([(x, y) for _, _, x, y in truth.places], np.float64).reshape(-1, 2)
    ends = [at for at, _, _ in goals[1:]] + [2**63 - 1]
    outcomes = []
    for (start, x, y), end in zip(goals, ends, strict=True):
        during = np.flatnonzero((received >= start) & (received < end))
        distance = np.hypot(places[during, 0] - x, places[during, 1] - y)
        near = np.flatnonzero(distance <= reached_m)
        took = during[:near[0] + 1] if len(near) else during
        outcomes.append(GoalOutcome(
            bool(len(near)), float(distance.min(initial=math.inf)),
            float(stamps[took[-1]] - stamps[took[0]]) * 1e-9 if len(took) else 0.0,
            sum(start <= at < end for at, _ in truth.impacts)))
    return outcomes


def motion_findings(notes: BagNotes) -> Findings:
    """Return what the robot did, where the bag tells where it truly was."""
    truth = notes.truth
    if not truth.places:
        return Findings()
    places = np.array([(x, y) for _, _, x, y in truth.places])
    distance_m = float(np.hypot(*np.diff(places, axis=0).T).sum())
    findings = Findings({'distance_m': distance_m, 'collisions': len(truth.impacts)})
    rows: list[tuple[str, list[float]]] = [
        ('distance driven, m', [distance_m]), ('contacts', [len(truth.impacts)])]
    if truth.impacts:
        hardest_mps = max(mps for _, mps in truth.impacts)
        findings.values['impact_mps_max'] = hardest_mps
        rows.append(('hardest contact, m/s', [hardest_mps]))
    tables = [Table('The drive', '', ('measure', 'value'), rows)]
    goals, sentences = _goals(notes)
    if goals:
        outcomes = goal_outcomes(truth, goals)
        reached = sum(outcome.reached for outcome in outcomes)
        clean = sum(outcome.reached and not outcome.contacts for outcome in outcomes)
        findings.values |= {
            'goals': len(goals), 'goals_reached': reached,
            'navigation_success': clean / len(goals)}
        tables.append(Table(
            'Goals', f'Reached is within {_REACHED_M:g} m of the true position; success is '
            'reached without a contact.', ('goal', 'reached', 'nearest, m', 'time, s', 'contacts'),
            [(f'{i}: ({x:.2f}, {y:.2f})',
              [int(o.reached), o.nearest_m, o.time_s, o.contacts])
             for i, ((_, x, y), o) in enumerate(zip(goals, outcomes, strict=True), start=1)]))
    findings.sections.append(PageSection(
        'Navigation', 'From recorded odometry, contacts and goals; nothing is driven again.',
        tables=tables))
    findings.sentences += sentences
    return findings


def _goals(notes: BagNotes) -> tuple[list[tuple[int, float, float]], list[str]]:
    """Return the goals in the frame of the true places, and sentences about those left out."""
    goals, sentences = [], []
    transforms = BagTransforms(notes.transforms, notes.static_transforms)
    for received_ns, frame_id, x, y in notes.goals:
        if frame_id != notes.truth.places_frame:
            transforms.advance(received_ns)
            stamp_ns = next((stamp for at, stamp, _, _ in notes.truth.places
                             if at >= received_ns), 0)
            try:
                pose = transforms.buffer.lookup(notes.truth.places_frame, frame_id, stamp_ns)
            except TransformError as error:
                sentences.append(f'a goal at ({x:g}, {y:g}) is left out: {error}')
                continue
            x, y = (pose[:2, :2] @ (x, y) + pose[:2, 3]).tolist()
        goals.append((received_ns, x, y))
    return goals, sentences

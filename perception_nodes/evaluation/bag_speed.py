"""How long the nodes took over a bag, how old their results were, and what they left out."""

from collections.abc import Mapping
import math

import numpy as np
from perception_nodes.core.overlay import colour_of
from perception_nodes.evaluation.bag_notes import nearest_stamp
from perception_nodes.evaluation.bag_page import Findings, PageSection
from perception_nodes.evaluation.bag_run import Moment, NodeLog
from perception_nodes.evaluation.bag_scores import Place
from perception_nodes.evaluation.model_page import Chart, Curve, Table
from perception_nodes.evaluation.report import Legend
from perception_nodes.evaluation.results import percentiles

_RANKS = (50, 90, 95, 99)
_MOST_SENTENCES = 3  # of one node


def speed_findings(logs: Mapping[str, NodeLog], mode: str) -> Findings:
    """Return figures, a table and curves for every node."""
    findings = Findings()
    rows, drops = [], []
    for name, log in logs.items():
        values = _values(name, log)
        findings.values |= values
        rows.append((name, [log.processed, *(
            values[f'{name}_{key}'] for key in (
                'compute_ms_p50', 'compute_ms_p90', 'compute_ms_p95', 'compute_ms_p99',
                'compute_ms_max', 'cpu_ms_p50', 'age_ms_p50', 'age_ms_p95'))]))
        drops += [(f'{name}: {reason.replace("_", " ")}', [count, count / log.received])
                  for reason, count in log.dropped.most_common()]
        drops += [(f'{name}: failed', [log.failed, log.failed / log.received])] \
            if log.failed else []
        findings.sentences += [
            f'{name}, {count} frame{"s" if count > 1 else ""}: {sentence}'
            for sentence, count in log.problems.most_common(_MOST_SENTENCES)]
        others = len(log.problems) - _MOST_SENTENCES
        if others > 0:
            findings.sentences.append(f'{name}: {others} more reasons like these')
    if not logs:
        return findings
    age = 'from the moment a frame was complete to its result, on a virtual clock' \
        if mode == 'realtime' else 'decoding, and the work of the nodes up to this one'
    tables = [Table(
        'Milliseconds per frame',
        f'Work of each node; CPU time is that of all threads. Age: {age}.',
        ('node', 'frames', 'p50', 'p90', 'p95', 'p99', 'max', 'CPU p50', 'age p50', 'age p95'),
        rows)]
    if drops:
        tables.append(Table('Frames without a result', '', ('why', 'frames', 'share'), drops))
    findings.sections.append(PageSection(
        'Speed', _HOW[mode], tables=tables, charts=_charts(logs),
        legends=[Legend(name, colour_of(i)) for i, name in enumerate(logs)]))
    return findings


_HOW = {
    'lockstep': 'Lock-step: every frame is worked on, however long that takes.',
    'realtime': 'Real time, simulated: frames arrive on a virtual clock as the recorder got '
                'them, work takes as long as it was measured to take, each node has a processor '
                'of its own, and a frame that arrives while its node is busy replaces the one '
                'that waits.'}


class RecordedSpeedPart:
    """How old recorded results were when the recorder got them, and for which frames none came."""

    def __init__(self, name: str, received_ns: Mapping[int, int], tolerance_ns: int) -> None:
        self._name, self._received_ns, self._tolerance_ns = name, received_ns, tolerance_ns
        self._stamps_ns = sorted(received_ns)
        self._ages_ms: list[float] = []
        self._frames = 0

    def add(self, place: Place, moment: Moment) -> None:
        """Look for the result of a frame."""
        self._frames += 1
        stamp_ns = nearest_stamp(self._stamps_ns, place.stamp_ns, self._tolerance_ns)
        if stamp_ns is not None:
            self._ages_ms.append((self._received_ns[stamp_ns] - place.received_ns) * 1e-6)

    def finish(self, seed: int) -> Findings:
        """Return ages and the frames without a result."""
        values: dict[str, float | int | str] = {
            f'{self._name}_frames': self._frames,
            f'{self._name}_dropped': self._frames - len(self._ages_ms),
            **percentiles(f'{self._name}_age_ms', self._ages_ms, _RANKS),
            f'{self._name}_age_ms_max': max(self._ages_ms, default=math.nan)}
        rows = [(key.removeprefix(f'{self._name}_').replace('_', ' '), [value])
                for key, value in values.items() if isinstance(value, (int, float))]
        return Findings(values, [PageSection(
            f'{self._name}: age', 'From the moment the recorder had the frame to the moment it '
            'had the result, by its own clock.',
            tables=[Table('Age', '', ('measure', 'value'), rows)])])


def _values(name: str, log: NodeLog) -> dict[str, float]:
    values: dict[str, float] = {
        f'{name}_frames': log.received, f'{name}_processed': log.processed,
        f'{name}_failed': log.failed, f'{name}_dropped': log.dropped.total(),
        **{f'{name}_dropped_{reason}': count for reason, count in log.dropped.items()}}
    for what, samples in (('compute', log.compute_ms), ('cpu', log.cpu_ms), ('age', log.age_ms)):
        values |= percentiles(f'{name}_{what}_ms', samples, _RANKS)
        values[f'{name}_{what}_ms_max'] = max(samples, default=math.nan)
    return values


def _charts(logs: Mapping[str, NodeLog]) -> list[Chart]:
    known = {name: log for name, log in logs.items() if log.compute_ms}
    if not known:
        return []
    # the very slowest frames would press everything else into a corner
    longest = _rounded_up(max(
        float(np.percentile(log.compute_ms, 99)) for log in known.values()) * 1.1)
    frames = max(len(log.compute_ms) for log in known.values())

    shares = [Curve(name, np.sort(log.compute_ms),
                    np.arange(1, len(log.compute_ms) + 1) / len(log.compute_ms), colour_of(i))
              for i, (name, log) in enumerate(logs.items()) if name in known]
    courses = [Curve(name, np.arange(len(log.compute_ms), dtype=np.float64),
                     np.array(log.compute_ms), colour_of(i))
               for i, (name, log) in enumerate(logs.items()) if name in known]
    return [Chart('Done within', 'Share of frames whose work took no longer.', 'ms', 'share',
                  shares, longest),
            Chart('Work on each frame', 'Beyond the 99th percentile the line is cut off.',
                  'frame', 'ms', courses, max(1.0, frames - 1.0), longest)]


def _rounded_up(value: float) -> float:
    """Return the next number of two figures the second of which is even: a quarter reads well."""
    step = 2.0 * 10.0 ** math.floor(math.log10(max(value, 1e-3)) - 1.0)
    return math.ceil(value / step) * step

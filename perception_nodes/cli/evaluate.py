"""
Run nodes over bags, without a ROS graph, and measure how fast and how good they are.

Every node of a parameter file is run on the frames of a bag: the same core, the same parameters,
the same input, the same result. Accuracy is measured where the bag has ground truth or a COCO
file has labels; speed, and whether results agree with themselves, always. With several bags and
parameter files every pair is evaluated. The exit code is 1 where --require is not met.
"""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
import difflib
import logging
import math
import operator
from pathlib import Path
import platform
import re
import shlex
import sys
import time
from typing import Literal, NamedTuple

from perception_nodes.cli.arguments import count, not_negative, renamed_classes, result_folder
from perception_nodes.evaluation.bag_notes import TRUTH
from perception_nodes.evaluation.bag_page import BagEvaluation, BagPage, write_bag_page
from perception_nodes.evaluation.bag_source import TopicNames
from perception_nodes.evaluation.evaluate_bag import BagTask, evaluate_bag
from perception_nodes.evaluation.model_page import Table
from perception_nodes.evaluation.parameter_sets import (
    default_parameter_set,
    KINDS,
    ParameterSet,
    read_parameter_set,
)
from perception_nodes.evaluation.results import commit, Value, write_results
from perception_nodes.evaluation.task_pool import run_tasks

log = logging.getLogger(__name__)

_CAMERA = '/camera'
_COMPARISONS = {'>=': operator.ge, '<=': operator.le}
# what the table of all evaluations shows, where it was measured
_OVERVIEW = ('AP50', 'AP', 'HOTA', 'IDF1', 'mIoU', 'f1', 'accuracy', 'box_flicker',
             'mask_flicker', 'compute_ms_p95', 'age_ms_p95', 'failed', 'dropped')


class Requirement(NamedTuple):
    """What a figure must reach."""

    name: str
    comparison: str
    value: float

    def is_met(self, value: float) -> bool:
        """Return whether a figure is known and reaches it."""
        return bool(math.isfinite(value) and _COMPARISONS[self.comparison](value, self.value))


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        'bags', type=Path, nargs='+', metavar='BAG', help='folder or file of a recording')
    parser.add_argument(
        '--params', type=Path, nargs='+', default=[], metavar='FILE',
        help='ROS parameter files; each is a set of its own, and starts the nodes that '
        "perception_container's list names, or else those it has blocks for")
    parser.add_argument(
        '--nodes', nargs='+', default=[], metavar='NODE',
        help=f'only these, or without --params these as they are by default: {", ".join(KINDS)} '
        '(default: detection, unless --recorded is given)')
    parser.add_argument(
        '--out', type=result_folder, default='out/evaluate', metavar='FOLDER',
        help='where to write report.html and evaluation.json (default %(default)s)')
    parser.add_argument(
        '--mode', choices=('lockstep', 'realtime'), default='lockstep',
        help='lockstep works on every frame; realtime on those that a node would get to at the '
        'recorded rate, on a virtual clock, and scores what was there at each moment')
    parser.add_argument(
        '--recorded', nargs='+', default=[], metavar='TOPIC',
        help="score Detection2DArray or masks that were recorded, by anybody's node; their class "
        'names are those of label_info beside the topic')
    parser.add_argument(
        '--labels', type=Path, metavar='COCO.json',
        help='true boxes, in pictures named by stamp (perception extract-frames makes them)')
    parser.add_argument(
        '--map', type=_renamed, default={}, metavar='OURS=THEIRS,...', dest='renamed',
        help="class names of the model where ground truth has others, as in 'couch=sofa'")
    parser.add_argument(
        '--grasp-labels', type=Path, metavar='FOLDER',
        help='true grasp rectangles as Cornell writes them, in files STAMP_NScpos.txt')
    parser.add_argument(
        '--tolerance-ms', type=not_negative, default=20.0, metavar='MS',
        help='how far labels and recorded results may lie from their frame (default 20)')
    parser.add_argument(
        '--truth', nargs='+', default=[], metavar='PREFIX',
        help=f'of the topics with ground truth, one for each camera (default {TRUTH} for '
        f'{_CAMERA}, and as the simulator has it {TRUTH}/NAME for /NAME)')
    add_camera_arguments(parser, nargs='+')
    parser.add_argument(
        '--require', type=_requirement, nargs='+', default=[], metavar='NAME>=VALUE',
        help="what figures of evaluation.json must reach, as in 'detection_AP50>=0.6'")
    parser.add_argument(
        '--jobs', type=count, default=1, metavar='N',
        help='evaluations at the same time, in processes of their own (default 1); they compete '
        'for the processor, so speed is that of a busy machine')
    parser.add_argument(
        '--ray', default='', metavar='ADDRESS',
        help="a Ray cluster that does it, such as 'auto'; its machines need this package, and the "
        'bags at the same paths')
    parser.add_argument(
        '--seed', type=int, default=0, help='of the confidence intervals (default 0)')


def add_camera_arguments(parser: ArgumentParser, nargs: Literal['+'] | None = None) -> None:
    """
    Declare where the pictures of a bag are.

    :param nargs: '+' for any number of cameras.
    """
    parser.add_argument(
        '--camera', default=[_CAMERA] if nargs else _CAMERA, nargs=nargs, metavar='NAME',
        help='camera whose topics are color/image_raw, aligned_depth_to_color/image_raw and '
        f'color/camera_info (default {_CAMERA})'
        + ('; several are evaluated one after the other' if nargs else ''))
    for name in ('image', 'depth', 'camera-info'):
        parser.add_argument(f'--{name}', default='', metavar='TOPIC', help='another topic instead')


def run(arguments: Namespace) -> int:
    """Evaluate, write figures and page, and say which requirements are not met."""
    start_s = time.monotonic()
    tasks = _tasks(arguments)
    done = run_tasks(evaluate_bag, tasks, arguments.jobs, arguments.ray)
    evaluations = [one for one in done if isinstance(one, BagEvaluation)]
    failures = [one for one in done if isinstance(one, str)]
    if not evaluations:
        raise ValueError(failures[0])
    for sentence in failures:
        log.error(sentence)
    values = _values(evaluations)
    verdicts = _verdicts(arguments.require, evaluations)
    out: Path = arguments.out
    write_results(out / 'evaluation.json', values, seed=arguments.seed,
                  n=sum(one.frames for one in evaluations), wall_s=time.monotonic() - start_s)
    overview = _overview(evaluations)
    write_bag_page(out / 'report.html', _page(
        arguments, evaluations, overview, verdicts, failures))
    _print(overview)
    for one in evaluations:
        for sentence in one.findings.sentences:
            log.info('%s: %s', one.name, sentence)
    for is_met, sentence in verdicts:
        (log.info if is_met else log.error)('%s: %s', 'met' if is_met else 'missed', sentence)
    print(f'  report   {out / "report.html"}\n  figures  {out / "evaluation.json"}')
    return 1 if failures or not all(is_met for is_met, _ in verdicts) else 0


def _tasks(arguments: Namespace) -> list[BagTask]:
    """Return every combination of bag, camera and parameter set."""
    sets = _parameter_sets(arguments)
    kinds = {node.kind for one in sets for node in one.nodes}
    if arguments.grasp_labels and 'grasp' not in kinds:
        raise ValueError('--grasp-labels is for the grasp node, but none is run: '
                         'add grasp to --nodes, or to the file of --params')
    bags = _distinct([bag.stem or bag.name for bag in arguments.bags])
    names = _distinct([one.name for one in sets])
    cameras = _cameras(arguments)
    tasks = []
    for bag, bag_name in zip(arguments.bags, bags, strict=True):
        for topics in cameras:
            for parameters, set_name in zip(sets, names, strict=True):
                words = [bag_name, *([topics.camera] if len(cameras) > 1 else ()),
                         *([set_name] if len(sets) > 1 else ())]
                tasks.append(BagTask(
                    bag, parameters, ', '.join(words), arguments.mode, topics, arguments.labels,
                    arguments.renamed, arguments.grasp_labels, arguments.tolerance_ms,
                    arguments.seed))
    return tasks


def _cameras(arguments: Namespace) -> list[TopicNames]:
    """
    Return where the pictures and the truth of each camera are.

    :raises ValueError: If it is not clear which camera something belongs to.
    """
    cameras = [f'/{name.strip("/")}' for name in arguments.camera]
    if twice := {name for name in cameras if cameras.count(name) > 1}:
        raise ValueError(f'--camera names {twice.pop()} twice')
    if len(cameras) > 1:
        for flag in ('image', 'depth', 'camera_info', 'labels', 'grasp_labels', 'recorded'):
            if getattr(arguments, flag):
                raise ValueError(
                    f'--{flag.replace("_", "-")} is for one camera, but --camera names '
                    f'{", ".join(cameras)}: evaluate each on its own')
    truths = arguments.truth or [
        TRUTH if camera == _CAMERA else f'{TRUTH}{camera}' for camera in cameras]
    if len(truths) != len(cameras):
        raise ValueError(
            f'--truth has {len(truths)} prefixes for the {len(cameras)} cameras '
            f'{", ".join(cameras)}: give one for each')
    return [TopicNames(camera, arguments.image, arguments.depth, arguments.camera_info,
                       truth.rstrip('/'), tuple(arguments.recorded))
            for camera, truth in zip(cameras, truths, strict=True)]


def _parameter_sets(arguments: Namespace) -> list[ParameterSet]:
    only = tuple(arguments.nodes)
    if arguments.params:
        return [read_parameter_set(path, only) for path in arguments.params]
    return [default_parameter_set(only or (() if arguments.recorded else ('detection',)))]


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, numbered where one occurs more than once."""
    return [f'{name}_{i}' if names.count(name) > 1 else name
            for i, name in enumerate(names, start=1)]


def _values(evaluations: Sequence[BagEvaluation]) -> dict[str, Value]:
    """Return all figures; with several evaluations each begins with the name of its own."""
    values: dict[str, Value] = {}
    for one in evaluations:
        prefix = re.sub(r'\W+', '_', one.name) + '_' if len(evaluations) > 1 else ''
        values |= {f'{prefix}{key}': value for key, value in one.findings.values.items()}
        values[f'{prefix}evaluation_s'] = round(one.wall_s, 3)
    return values


def _verdicts(
    requirements: Sequence[Requirement], evaluations: Sequence[BagEvaluation]
) -> list[tuple[bool, str]]:
    verdicts = []
    for wanted in requirements:
        for one in evaluations:
            value = one.findings.values.get(wanted.name, math.nan)
            known = isinstance(value, (int, float))
            is_met = known and wanted.is_met(float(value))
            what = f'{one.name}: ' if len(evaluations) > 1 else ''
            shown = f'is {value:.4g}' if known and math.isfinite(float(value)) else (
                f'was not measured{_meant(wanted.name, list(one.findings.values))}')
            verdicts.append((is_met, f'{what}{wanted.name} {shown}, required is '
                             f'{wanted.comparison} {wanted.value:g}'))
    return verdicts


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close and close[0] != name else ''


def _overview(evaluations: Sequence[BagEvaluation]) -> Table:
    """Put what all evaluations have measured side by side."""
    names = dict.fromkeys(
        key for ending in _OVERVIEW for one in evaluations for key in one.findings.values
        if key.endswith(f'_{ending}'))
    rows: list[tuple[str, list[float]]] = [('frames', [one.frames for one in evaluations])]
    for key in names:
        numbers = [_number(one.findings.values.get(key)) for one in evaluations]
        rows.append((key.replace('_', ' '), numbers))
    return Table(
        'Side by side', 'AP50 and AP as COCO counts them, mIoU over all pixels; flicker needs no '
        'ground truth; milliseconds at the 95th percentile.',
        ('measure', *(one.name for one in evaluations)), rows)


def _number(value: Value | None) -> float:
    return value if isinstance(value, (int, float)) else math.nan


def _page(
    arguments: Namespace, evaluations: Sequence[BagEvaluation], overview: Table,
    verdicts: Sequence[tuple[bool, str]], failures: Sequence[str],
) -> BagPage:
    frames = sum(one.frames for one in evaluations)
    first = evaluations[0].findings.values
    facts = [('commit', commit()), ('Python', platform.python_version()),
             ('machine', f'{platform.machine()}, {platform.node()}')]
    facts += [(f'{one.name}: {key.replace("_", " ")}', str(value)) for one in evaluations
              for key, value in one.findings.values.items() if key.endswith('_hash')]
    facts += [('not evaluated', sentence) for sentence in failures]
    bags = f'{len(evaluations)} evaluations' if len(evaluations) > 1 else evaluations[0].name
    return BagPage(
        'perception evaluate', f'{bags}: {frames} frames',
        f'{first.get("bag_s", 0.0):.1f} s of recording; nodes were run without a ROS graph, on '
        'the frames of the bag.' if len(evaluations) == 1 else
        'Every parameter set on every camera of every bag, without a ROS graph.',
        overview, evaluations, verdicts, [('Evaluate again', _command())], facts)


def _command() -> str:
    return shlex.join(['perception', *sys.argv[1:]])


def _print(table: Table) -> None:
    width = max(len(name) for name, _ in table.rows)
    columns = [max(8, len(name)) for name in table.header[1:]]
    for name, cells in [(table.header[0], table.header[1:]), *(
            (name, [table.shown(value) for value in numbers]) for name, numbers in table.rows)]:
        print(f'{name:{width}}' + ''.join(
            f'  {cell:>{w}}' for cell, w in zip(cells, columns, strict=True)))


def _renamed(text: str) -> dict[str, str]:
    """Return our name by theirs."""
    return {theirs: ours for ours, theirs in renamed_classes(text).items()}


def _requirement(text: str) -> Requirement:
    match = re.fullmatch(r'\s*(\w+)\s*(>=|<=)\s*(\S+)\s*', text)
    try:
        if match is None:
            raise ValueError
        return Requirement(match[1], match[2], float(match[3]))
    except ValueError:
        raise ArgumentTypeError(
            f"'{text}' is no requirement; write it as 'detection_AP50>=0.6', in quotes") from None

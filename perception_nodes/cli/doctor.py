"""``perception doctor``: what is wrong with a graph or a bag, and what to do about it."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
import json
from pathlib import Path

from perception_nodes.cli.arguments import positive
from perception_nodes.cli.diagnosis.bag import bag_snapshot
from perception_nodes.cli.diagnosis.checks import examine
from perception_nodes.cli.diagnosis.machine import needs_of_file, shipped_models
from perception_nodes.cli.diagnosis.snapshot import Finding, LEVELS, NeedFacts, Snapshot

_CODES = {'error': 2, 'warning': 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``perception doctor`` takes."""
    parser.epilog = 'exit code: 0 nothing is wrong, 1 warnings, 2 errors'
    parser.add_argument(
        '--bag', type=Path, metavar='BAG', help='look at a bag instead of the running graph')
    parser.add_argument(
        '--params', type=Path, metavar='FILE',
        help='parameter file whose frames, models and devices are to be checked; those of '
        'running nodes are anyway')
    parser.add_argument(
        '--seconds', type=positive, default=5.0, metavar='S',
        help='how long to listen to a graph (default: %(default)g)')
    parser.add_argument(
        '--rate', type=_rate, action='append', default=[], metavar='TOPIC=HZ',
        help='how often a topic should come; can be repeated')
    parser.add_argument('--json', action='store_true', help='print one JSON object')


def run(arguments: argparse.Namespace) -> int:
    """Look, print what is wrong, and return 2 with errors, 1 with warnings, else 0."""
    findings: list[Finding] = []
    needs: tuple[NeedFacts, ...] = ()
    try:
        needs = needs_of_file(arguments.params) if arguments.params else ()
    except (OSError, ValueError) as error:
        findings.append(Finding(
            'error', 'parameters', _sentence(error), 'correct the file given as --params'))
    try:
        snapshot = _snapshot(arguments, needs)
        findings += examine(replace(snapshot, needs=(*snapshot.needs, *shipped_models())))
    except (OSError, ValueError) as error:
        findings.append(Finding('error', 'bag', _sentence(error), 'name another bag'))
    print(as_json(findings) if arguments.json else as_text(findings))
    return max((_CODES.get(finding.level, 0) for finding in findings), default=0)


def as_text(findings: Sequence[Finding]) -> str:
    """Return what is found, a paragraph each, and how much of it."""
    lines = []
    for finding in findings:
        lines.append(f'{finding.level:7} [{finding.check}] {finding.sentence}')
        if finding.fix:
            lines.append(f'{"":7} -> {finding.fix}')
    counts = _counts(findings)
    lines.append(f'{counts["error"]} error(s), {counts["warning"]} warning(s)')
    return '\n'.join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    """Return the same as one JSON object."""
    counts = _counts(findings)
    return json.dumps({
        'errors': counts['error'], 'warnings': counts['warning'],
        'findings': [asdict(finding) for finding in findings]}, indent=2)


def _counts(findings: Sequence[Finding]) -> Mapping[str, int]:
    found = Counter(finding.level for finding in findings)
    return {level: found[level] for level in LEVELS}


def _snapshot(arguments: argparse.Namespace, needs: Sequence[NeedFacts]) -> Snapshot:
    expected_hz = dict(arguments.rate)
    if arguments.bag is not None:
        return bag_snapshot(arguments.bag, needs, expected_hz)
    # a bag needs no ROS
    from perception_nodes.cli.diagnosis.graph import graph_snapshot
    from perception_nodes.ros.session import Session
    with Session('perception_doctor') as session:
        return graph_snapshot(session, arguments.seconds, needs, expected_hz)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    return str(error)


def _rate(text: str) -> tuple[str, float]:
    topic, assigned, number = text.rpartition('=')
    if not assigned or not topic:
        raise argparse.ArgumentTypeError(f"'{text}' is no rate; write it as /topic=30")
    return f'/{topic.lstrip("/")}', positive(number)

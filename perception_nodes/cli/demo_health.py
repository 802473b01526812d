"""What nodes report of themselves on ``/diagnostics``, as figures of the demo."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TYPE_CHECKING

from perception_nodes.cli.processes import await_nodes, Child

if TYPE_CHECKING:
    from perception_nodes.ros.session import Session

_TIMEOUT_S = 120.0

Health = dict[str, dict[str, str]]  # by node: its last report


def reported(msg: Any) -> Health:
    """Return the figures of every node of a DiagnosticArray that has published results."""
    found = {}
    for status in msg.status:
        values = {value.key: value.value for value in status.values if value.value}
        if 'age_p95_ms' in values:
            found[status.name.lstrip('/').partition(':')[0]] = values
    return found


def await_reports(
    session: 'Session', children: Sequence[Child], nodes: Collection[str]
) -> None:
    """
    Wait until each node has told its figures twice: a recorder has the first of them by then.

    :raises OSError: If a child ends, a node reports an error, or one says nothing in time.
    """
    from diagnostic_msgs.msg import DiagnosticArray
    heard: Counter[str] = Counter()
    subscription = session.node.create_subscription(
        DiagnosticArray, '/diagnostics', lambda msg: heard.update(reported(msg).keys()), 10)
    await_nodes(session, children, lambda: all(heard[node] >= 2 for node in nodes), _TIMEOUT_S)
    session.unsubscribe(subscription)


def node_figures(node: str, health: Mapping[str, str]) -> dict[str, float]:
    """Return age and drops of a node, from its last report."""
    return {
        **{f'age_{rank}_ms_{node}': float(health.get(f'age_{rank}_ms', 'nan'))
           for rank in ('p50', 'p95')},
        f'dropped_{node}': sum(
            int(n) for name, n in health.items() if name.startswith('dropped_'))}

"""How many objects were counted, as a ROS message."""

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue


def counts_to_msg(name: str, counts: Mapping[str, Mapping[str, int]]) -> DiagnosticStatus:
    """
    Convert counts to ``diagnostic_msgs/DiagnosticStatus`` with values such as ``person/in``.

    :param name: Of the node.
    :param counts: Numbers by what they count, by class.
    """
    values = {f'{kind}/{what}': n for kind, own in counts.items() for what, n in own.items()}
    return DiagnosticStatus(
        level=DiagnosticStatus.OK, name=name, message='counting',
        values=[KeyValue(key=key, value=str(n)) for key, n in values.items()])

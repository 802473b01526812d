"""The heartbeat for a lifecycle manager, where the library for it is installed."""

import sys
from types import ModuleType

from perception_nodes.ros.bond import form_bond


class Node:
    """What a bond needs of a node."""

    def __init__(self):
        self.said = []

    def get_name(self):
        return 'detection'

    def get_logger(self):
        class Logger:
            info = self.said.append
        return Logger


def test_a_bond_beats_as_nav2_expects(monkeypatch):
    """Topic, id and periods are those of Nav2's own nodes."""
    class Bond:
        started = False

        def __init__(self, topic, id_, node):
            self.topic, self.id = topic, id_

        def start(self):
            self.started = True

    module = ModuleType('bondpy.bondpy')
    module.Bond = Bond
    monkeypatch.setitem(sys.modules, 'bondpy', ModuleType('bondpy'))
    monkeypatch.setitem(sys.modules, 'bondpy.bondpy', module)
    bond = form_bond(Node())
    assert (bond.topic, bond.id, bond.started) == ('/bond', 'detection', True)
    assert (bond.heartbeat_period, bond.heartbeat_timeout) == (0.1, 4.0)


def test_without_the_library_the_way_out_is_said(monkeypatch):
    """The node works; the manager must not wait for a heartbeat."""
    monkeypatch.setitem(sys.modules, 'bondpy', None)
    node = Node()
    assert form_bond(node) is None
    assert 'bond_timeout to 0.0' in node.said[0]

"""What the recorder does when the disk cannot keep up."""

import threading

from perception_nodes.evaluation.bag import Bag
import pytest

pytest.importorskip('rclpy')
from perception_nodes.cli import recorder as module  # noqa: E402
from perception_nodes.cli.recorder import Recorder  # noqa: E402
from perception_nodes.ros.session import Session  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from std_msgs.msg import String  # noqa: E402

pytestmark = pytest.mark.graph


def test_a_slow_disk_drops_and_counts(session, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, '_WAITING_BYTES', 5_000)
    disk_is_free = threading.Event()
    with (Session('speaker') as speaker,
          Recorder(session, tmp_path / 'bag', ['/words']) as recorder):
        publisher = speaker.node.create_publisher(String, '/words', 100)
        assert session.wait_for(
            lambda: recorder.attend() or publisher.get_subscription_count(), 60.0)
        recorder._thread.submit(disk_is_free.wait)
        cdr = serialize_message(String(data='x' * 980))
        for _ in range(20):
            publisher.publish(cdr)
        assert session.wait_for(lambda: recorder.dropped['/words'] == 15, 60.0)
        disk_is_free.set()
    assert recorder.counts == {'/words': 5}
    assert 'the disk is too slow: dropping messages of /words' in caplog.text
    with Bag(tmp_path / 'bag') as bag:
        assert bag.count == 5

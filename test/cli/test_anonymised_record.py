"""What ``perception record`` says of wrong words about anonymising, before it touches a bag."""

import time

import numpy as np
from perception_nodes.cli.main import main
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')


@pytest.mark.parametrize(('words', 'sentence'), [
    (['--anonymise', 'persn'], "'persn', which the model does not know; did you mean 'person'"),
    (['--anonymise', 'person', '--model', 'nobody'], 'nobody'),
    (['--model', 'coco_ssdlite_mobilenet_v2'], '--model tells how to anonymise'),
    (['--method', 'fill'], '--method tells how to anonymise')])
def test_a_wrong_word_costs_no_bag(tmp_path, capfd, words, sentence):
    """The old bag is there still: it would have been replaced."""
    bag = tmp_path / 'bag'
    bag.mkdir()
    (bag / 'metadata.yaml').touch()
    assert main(['record', str(bag), '--overwrite', *words]) == 1
    said = capfd.readouterr().err
    assert sentence in said
    assert 'Traceback' not in said
    assert (bag / 'metadata.yaml').exists()


def test_an_empty_list_of_classes_is_wrong_usage(tmp_path, capfd):
    with pytest.raises(SystemExit):
        main(['record', str(tmp_path / 'bag'), '--anonymise', 'person,,car'])
    assert "'person,,car' is no list of classes" in capfd.readouterr().err


@pytest.mark.graph
def test_pictures_without_people_are_recorded(run, session, tmp_path):
    """The whole way of the verb, with the shipped detector."""
    from perception_nodes.evaluation.bag import Bag
    from sensor_msgs.msg import Image
    publisher = session.node.create_publisher(Image, '/image', 10)
    verb = run('record', tmp_path / 'bag', '--anonymise', 'person', '--method', 'fill',
               '--topics', '/image')
    noise = np.random.default_rng(0).integers(0, 256, 9216, np.uint8)  # chunks are compressed
    empty = Image(width=64, height=48, step=192, encoding='rgb8', data=noise.tobytes())

    published_s = 0.0

    def written():
        """Publish once a second, no faster than a busy model works, until the file grows."""
        nonlocal published_s
        if time.monotonic() - published_s > 1.0:
            published_s = time.monotonic()
            publisher.publish(empty)
        return sum(file.stat().st_size for file in (tmp_path / 'bag').glob('*.mcap')) > 9216

    assert session.wait_for(written, 60.0)
    verb.interrupt()
    shown, _ = verb.finish()
    assert '/image' in shown
    with Bag(tmp_path / 'bag') as bag:
        images = [m.content for m in bag.messages(['/image'])]
    assert images
    assert all(bytes(image.data) == bytes(empty.data) for image in images)

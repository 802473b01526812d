"""One network for several nodes: batches of what waits, each to its own, and freed at the end."""

from dataclasses import replace
import logging
import threading
import time
import weakref

import numpy as np
from perception_nodes.backends import sharing
from perception_nodes.backends.sharing import LARGEST_BATCH, share_model, SharedModel
from perception_nodes.core.latency import working_ns
from perception_nodes.core.manifest import find_model
from perception_nodes.core.types import Detections
import pytest

WAIT_S = 60.0
BAD = 255  # a frame of it is refused


def frames(*values):
    """Return a small image of each brightness."""
    return [np.full((4, 6, 3), value, np.uint8) for value in values]


class MeanModel:
    """Answers how bright each frame is; as instances, boxes of which the brightness is the x."""

    class_names = {0: 'light'}
    needs_suppression = False

    def predict(self, frames, *, confidence=False):
        means = [float(frame.mean()) for frame in frames]
        if BAD in means:
            raise ValueError('too bright')
        return [(mean, confidence) for mean in means]

    def predict_instances(self, frames, select):
        found = []
        for frame in frames:
            boxes = np.tile(np.float32([frame.mean(), 0, 9, 9]), (3, 1))
            boxes = Detections(boxes, np.float32([0.9, 0.8, 0.7]), np.arange(3))
            found.append(boxes[select(boxes)])
        return found


class Held:
    """A model around a real one: says how many frames come at once, and runs when it is let."""

    def __init__(self, model):
        self._model = model
        self.batches = []
        self.errors = {}  # by the number of the run
        self._entered, self._go = threading.Semaphore(0), threading.Semaphore(0)

    def __getattr__(self, name):
        return getattr(self._model, name)

    def predict(self, frames, **options):
        return self._run(frames, lambda: self._model.predict(frames, **options))

    def predict_instances(self, frames, select):
        return self._run(frames, lambda: self._model.predict_instances(frames, select))

    def _run(self, frames, work):
        self.batches.append(len(frames))
        error = self.errors.get(len(self.batches))
        self._entered.release()
        assert self._go.acquire(timeout=WAIT_S)
        if error:
            raise error
        return work()

    def wait_for_a_run(self):
        assert self._entered.acquire(timeout=WAIT_S)

    def go(self, runs=1):
        self._go.release(runs)


class Node(threading.Thread):
    """A thread that asks once."""

    def __init__(self, ask):
        super().__init__(daemon=True)
        self._ask = ask
        self.answers = self.error = None
        self.start()

    def run(self):
        try:
            self.answers = self._ask()
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(WAIT_S)
        assert not self.is_alive()
        return self.answers


@pytest.fixture
def waits(monkeypatch):
    """Count the threads that begin to wait for a shared model."""
    begun = threading.Semaphore(0)

    class Watched(threading.Condition):
        def wait(self, timeout=None):
            begun.release()
            return super().wait(timeout)

    monkeypatch.setattr(sharing, 'Condition', Watched)
    return begun


@pytest.fixture
def crowd(waits):
    """Return a function that lets nodes come one after the other while another one runs."""
    def gather(model, *asks):
        held = Held(model)
        shared = SharedModel(held)
        first = Node(lambda: shared.predict(frames(1)))
        held.wait_for_a_run()
        nodes = []
        for ask in asks:
            nodes.append(Node(lambda ask=ask: ask(shared)))
            assert waits.acquire(timeout=WAIT_S)
        return held, first, nodes
    return gather


def asking(*values, **options):
    return lambda shared: shared.predict(frames(*values), **options)


def test_who_comes_while_the_model_runs_is_in_the_next_batch(crowd):
    held, first, nodes = crowd(MeanModel(), asking(10), asking(20, 21), asking(30))
    assert held.batches == [1]
    held.go(2)
    assert first.result() == [(1.0, False)]
    assert [node.result() for node in nodes] == [
        [(10.0, False)], [(20.0, False), (21.0, False)], [(30.0, False)]]
    assert held.batches == [1, 4]


def test_a_single_node_is_answered_at_once():
    shared = SharedModel(MeanModel())
    assert shared.predict(frames(7)) == [(7.0, False)]
    assert shared.predict([]) == []
    assert (shared.class_names, shared.needs_suppression) == ({0: 'light'}, False)
    assert not hasattr(shared, 'has_masks')


def test_batches_are_bounded_and_the_oldest_go_first(crowd):
    """No request is split, and none overtakes one that did not fit."""
    assert LARGEST_BATCH == 8
    held, _, nodes = crowd(
        MeanModel(), asking(1, 2, 3), asking(4, 5, 6), asking(7, 8, 9), asking(10))
    held.go(3)
    assert [[mean for mean, _ in node.result()] for node in nodes] == [
        [1, 2, 3], [4, 5, 6], [7, 8, 9], [10]]
    assert held.batches == [1, 6, 4]


def test_more_cameras_of_one_node_than_a_batch_holds_stay_together(crowd):
    held, _, (many, one) = crowd(MeanModel(), asking(*range(11)), asking(5))
    held.go(3)
    assert len(many.result()) == 11
    assert one.result() == [(5.0, False)]
    assert held.batches == [1, 11, 1]


def test_other_options_are_another_batch(crowd):
    held, _, nodes = crowd(
        MeanModel(), asking(1, confidence=True), asking(2, confidence=False),
        asking(3, confidence=True))
    held.go(3)
    assert [node.result() for node in nodes] == [[(1.0, True)], [(2.0, False)], [(3.0, True)]]
    assert held.batches == [1, 2, 1]


def test_each_node_selects_from_its_own_boxes(crowd):
    """Thresholds are those of the node, also where the model makes masks of what is kept."""
    def instances(count, *values):
        return lambda shared: shared.predict_instances(
            frames(*values), lambda found: np.arange(count))

    held, _, nodes = crowd(MeanModel(), instances(1, 10, 11), asking(5), instances(3, 20))
    held.go(3)
    found = [node.result() for node in nodes]
    assert held.batches == [1, 3, 1]
    assert [len(boxes) for boxes in found[0]] == [1, 1]
    assert [boxes.boxes_xyxy[0, 0] for boxes in found[0]] == [10, 11]
    assert found[1] == [(5.0, False)]
    assert found[2][0].boxes_xyxy[:, 0].tolist() == [20, 20, 20]


def test_a_bad_frame_spoils_its_own_node_only(crowd, caplog):
    held, _, (good, bad, other) = crowd(MeanModel(), asking(1), asking(2, BAD), asking(3))
    held.go(5)
    assert (good.result(), other.result()) == ([(1.0, False)], [(3.0, False)])
    bad.join(WAIT_S)
    assert (type(bad.error), str(bad.error)) == (ValueError, 'too bright')
    assert held.batches == [1, 4, 1, 2, 1]
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in said] == [
        'a batch of 3 nodes failed (too bright): each is now run alone; this is said once']


def test_after_a_failure_batches_go_on(crowd):
    held, _, (bad, good) = crowd(MeanModel(), asking(BAD), asking(1))
    held.go(4)
    assert good.result() == [(1.0, False)]
    bad.join(WAIT_S)
    shared = SharedModel(MeanModel())
    with pytest.raises(ValueError, match='too bright'):
        shared.predict(frames(BAD))
    assert shared.predict(frames(4)) == [(4.0, False)]


def test_who_is_interrupted_leaves_the_others_their_turn(crowd):
    """Ctrl-C reaches the main thread, which may run a batch for others; they must not hang."""
    held, _, (interrupted, other) = crowd(MeanModel(), asking(1), asking(2))
    held.errors[2] = KeyboardInterrupt()
    held.go(3)
    assert other.result() == [(2.0, False)]
    interrupted.join(WAIT_S)
    assert isinstance(interrupted.error, KeyboardInterrupt)
    assert held.batches == [1, 2, 1]


def test_waiting_for_others_is_no_work(crowd, monkeypatch):
    """The run before is waiting, the own run is work, whoever makes it."""
    now_ns = 1_000
    monkeypatch.setattr(time, 'monotonic_ns', lambda: now_ns)

    def timed(shared):
        began_ns = working_ns()
        shared.predict(frames(2))
        return working_ns() - began_ns

    held, _, nodes = crowd(MeanModel(), timed, timed)
    now_ns += 500
    held.go()
    held.wait_for_a_run()
    now_ns += 30
    held.go()
    assert [node.result() for node in nodes] == [30, 30]


@pytest.fixture
def entry(colour_classifier):
    """Return the entry of a classifier that was just written."""
    pytest.importorskip('onnxruntime')
    return find_model('colours', 'classification', str(colour_classifier))


RED, BLUE = (np.full((8, 8, 3), colour, np.uint8) for colour in ((200, 9, 9), (9, 9, 200)))


def best(model, frame):
    return int(model.predict([frame])[0].class_ids[0])


def test_nodes_that_ask_for_the_same_share_it_until_the_last_lets_go(entry, caplog):
    """Onnxruntime's sessions are run by all at once; there is no queue before them."""
    with caplog.at_level(logging.INFO):
        first, second = share_model(entry, 'cpu'), share_model(entry, 'cpu')
    assert first is second
    assert not isinstance(first, SharedModel)
    assert "model 'colours' is shared with another node of this process" in caplog.text
    assert share_model(entry, 'cpu', input_size=(8, 8)) is first  # the model's own size
    held = weakref.ref(first)
    del first
    assert best(second, RED) == 0
    del second
    assert held() is None
    third = share_model(entry, 'cpu')
    assert best(third, BLUE) == 2


def test_other_settings_are_another_copy(entry):
    first = share_model(entry, 'cpu')
    others = [share_model(entry, 'auto'),
              share_model(replace(entry, class_names={0: 'a', 1: 'b', 2: 'c'}), 'cpu'),
              share_model(replace(entry, input=replace(entry.input, std=(9, 9, 9))), 'cpu')]
    assert len({id(model) for model in (first, *others)}) == 4
    assert others[1].class_names[0] == 'a'


def test_a_file_that_has_changed_is_not_shared(entry):
    """A copy in memory does not hide what loading would refuse."""
    first = share_model(entry, 'cpu')
    entry.path.write_bytes(entry.path.read_bytes() + b'\0')
    with pytest.raises(ValueError, match="'colours' are not the ones of the manifest"):
        share_model(entry, 'cpu')
    entry.path.unlink()
    with pytest.raises(FileNotFoundError, match="weights of model 'colours' are missing"):
        share_model(entry, 'cpu')
    assert best(first, RED) == 0


def test_other_runtimes_on_a_cpu_are_not_shared(entry, monkeypatch):
    """Each node keeps its own thread busy; not all of them can be run by two."""
    loaded = []

    def load(entry, device, **settings):
        loaded.append((entry.backend, device, settings))
        return MeanModel()

    monkeypatch.setattr(sharing, 'load_model', load)
    own = replace(entry, backend='own')
    first, second = share_model(own, 'cpu'), share_model(own, 'cpu', input_size=(16, 16))
    assert first is not second
    assert loaded == [('own', 'cpu', {'half_precision': False, 'input_size': size})
                      for size in ((), (16, 16))]


def test_on_a_gpu_nodes_take_turns_and_the_memory_goes_with_the_last(entry, monkeypatch):
    """A frame that failed holds nothing back."""
    made = []

    def load(entry, device, **settings):
        model = MeanModel()
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(sharing, 'is_torch_on_gpu', lambda backend, device: True)
    monkeypatch.setattr(sharing, 'load_model', load)
    first, second = share_model(entry, 'cuda:0'), share_model(entry, 'cuda:0')
    assert first is second
    assert isinstance(first, SharedModel)
    del first
    assert second.predict(frames(3)) == [(3.0, False)]
    with pytest.raises(ValueError, match='too bright'):
        second.predict(frames(BAD))
    assert len(made) == 1
    del second
    assert made[0]() is None


def test_two_threads_run_one_session_and_get_their_own_answers(entry):
    model = share_model(entry, 'cpu')
    start = threading.Barrier(2)

    def ask(frame):
        start.wait(WAIT_S)
        return [best(model, frame) for _ in range(50)]

    red, blue = Node(lambda: ask(RED)), Node(lambda: ask(BLUE))
    assert (red.result(), blue.result()) == ([0] * 50, [2] * 50)


@pytest.fixture
def small_segnet(tmp_path, make_entry):
    """Return the entry of a small segmenter of our own with seeded weights."""
    torch = pytest.importorskip('torch')
    safetensors = pytest.importorskip('safetensors.torch')
    from perception_nodes.backends.networks.segnet import segnet_small
    torch.set_num_threads(1)
    torch.manual_seed(2)
    network = segnet_small(3)
    for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0
    with torch.inference_mode():  # statistics of noise keep the features in range
        network(torch.randn(2, 3, 48, 64))
    safetensors.save_file(network.state_dict(), tmp_path / 'small.safetensors')
    return make_entry(
        tmp_path / 'small.safetensors', 'own', 'segnet_small', 3, task='segmentation', width=64,
        height=48, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


@pytest.mark.slow
def test_a_network_answers_in_a_batch_as_alone(small_segnet, crowd, photo, place):
    """Cameras of two sizes among them; pixels may differ where two classes are equally good."""
    alone = sharing.load_model(small_segnet, place)
    pictures = [photo, photo[:, ::-1], photo[10:90, 20:100]]
    held, first, nodes = crowd(alone, *(
        lambda shared, picture=picture: shared.predict([picture], confidence=True)
        for picture in pictures))
    held.go(2)
    assert len(first.result()) == 1
    for picture, node in zip(pictures, nodes, strict=True):
        mask, = node.result()
        expected, = alone.predict([picture], confidence=True)
        assert mask.ids.shape == picture.shape[:2]
        differs = mask.ids != expected.ids
        assert (expected.confidence[differs] < 0.5 + 1e-3).all() and differs.mean() < 0.01
        np.testing.assert_allclose(mask.confidence, expected.confidence, atol=1e-4)
    one, mirrored = (node.answers[0].confidence for node in nodes[:2])
    assert np.abs(one - mirrored).max() > 0.01  # nobody got another's answer
    assert held.batches == [1, 3]

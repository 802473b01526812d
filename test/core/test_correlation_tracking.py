"""One object is followed on known paths, lost when it is gone, and found when it is back."""

import cv2
import numpy as np
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.core.correlation_tracking import CorrelationTracker, TrackParams
import pytest

WIDTH, HEIGHT = 160, 120
OBJECT = (24, 30)  # width and height


def texture(height, width, seed, octaves):
    """Return noise with as much power on every scale, as natural surfaces have."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(
        rng.random((max(height * 2**n // 64, 2), max(width * 2**n // 64, 2), 3), np.float32),
        (width, height), interpolation=cv2.INTER_CUBIC) * 0.7**n for n in octaves]
    total = np.sum(layers, axis=0)
    return (255 * (total - total.min()) / np.ptp(total)).astype(np.uint8)


@pytest.fixture(scope='module')
def scene():
    """Return a maker of images: an object on a background, and its true box, (1, 4)."""
    background = np.pad(
        texture(HEIGHT, WIDTH, 1, range(5)), ((200, 200), (200, 200), (0, 0)), mode='reflect')
    sprite = texture(90, 72, 2, range(2, 6))

    def image(center, *, scale=1.0, gain=1.0):
        width, height = (round(scale * side) for side in OBJECT)
        x, y = round(center[0] - width / 2), round(center[1] - height / 2)
        large = background.copy()
        large[y + 200:y + 200 + height, x + 200:x + 200 + width] = cv2.resize(
            sprite, (width, height), interpolation=cv2.INTER_AREA)
        rgb = cv2.convertScaleAbs(large[200:-200, 200:-200], alpha=gain)
        return rgb, np.array([[x, y, x + width, y + height]], np.float32)

    return image


def overlap(target, true_box):
    return float(iou_matrix(target.box_xyxy[None], true_box)[0, 0])


def started(scene, center, params=None):
    rgb, box = scene(center)
    return CorrelationTracker(rgb, box[0], params or TrackParams())


def test_a_moving_object_is_followed(scene):
    """Seven pixels per image at most, a quarter of its width, in a curve."""
    tracker = started(scene, (40, 60))
    overlaps = []
    for n in range(40):
        rgb, box = scene((40 + 2 * n, 60 + 30 * np.sin(n / 5)))
        target = tracker.step(rgb)
        assert target is not None
        assert target.score > 0.5
        overlaps.append(overlap(target, box))
    assert min(overlaps) > 0.7
    assert np.mean(overlaps) > 0.85


def test_size_is_followed(scene):
    """Half as large again within thirty images, and back."""
    tracker = started(scene, (80, 60))
    for n in range(60):
        rgb, box = scene((80, 60), scale=1.0 + 0.5 * np.sin(np.pi * n / 59))
        target = tracker.step(rgb)
        assert target is not None
        assert overlap(target, box) > 0.6, n
    width = target.box_xyxy[2] - target.box_xyxy[0]
    assert width == pytest.approx(OBJECT[0], rel=0.2)


def test_a_change_of_light_is_no_change_of_the_object(scene):
    """A third of the light within ten images, then all of it at once."""
    tracker = started(scene, (80, 60))
    for n, gain in enumerate([*np.geomspace(1.0, 0.35, 10), 1.0, 1.0, 0.5]):
        rgb, box = scene((80 + n, 60), gain=gain)
        target = tracker.step(rgb)
        assert target is not None, gain
        assert overlap(target, box) > 0.7, gain


@pytest.mark.parametrize('back', [(100, 60), (30, 90)])
def test_gone_is_lost_and_back_is_found(scene, back):
    """Out to the right; nothing is made up meanwhile; back there, or at the other end."""
    tracker = started(scene, (100, 60))
    seen = [tracker.step(scene((100 + 4 * n, 60))[0]) is not None for n in range(25)]
    assert all(seen[:10])
    assert not any(seen[22:])  # it is out of the image
    assert tracker.is_lost
    for _ in range(15):
        assert tracker.step(scene((-150, 60))[0]) is None
    rgb, box = scene(back)
    found = next(target for target in (tracker.step(rgb) for _ in range(40)) if target)
    assert overlap(found, box) > 0.6
    assert not tracker.is_lost
    assert overlap(tracker.step(rgb), box) > 0.7


def test_hidden_for_a_moment(scene):
    """Behind a grey screen it is lost, and the filter learns nothing of the screen."""
    tracker = started(scene, (80, 60))
    for n in range(10):
        tracker.step(scene((80 + n, 60))[0])
    screened = scene((95, 60))[0]
    screened[30:90, 60:130] = 128
    assert [tracker.step(screened) for _ in range(10)] == [None] * 10
    rgb, box = scene((95, 60))
    found = next(target for target in (tracker.step(rgb) for _ in range(20)) if target)
    assert overlap(found, box) > 0.7


def test_an_image_without_anything_has_nothing(scene):
    """Black, white and equal noise: no number is made up, and no warning given."""
    tracker = started(scene, (80, 60))
    rng = np.random.default_rng(3)
    for rgb in (np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.full((HEIGHT, WIDTH, 3), 255, np.uint8),
                rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)):
        assert tracker.step(rgb) is None
    assert tracker.step(scene((80, 60))[0]) is not None


def test_an_object_that_comes_close_is_no_larger_than_the_image(scene):
    """It grows until it fills the image, and stays followed."""
    tracker = started(scene, (80, 60))
    for n in range(75):
        target = tracker.step(scene((80, 60), scale=1.02**n)[0])
    assert target is not None
    size = target.box_xyxy[2:] - target.box_xyxy[:2]
    assert (size <= (WIDTH, HEIGHT)).all()
    assert size[1] > 60


@pytest.mark.parametrize('box', [(10, 10, 15, 40), (150, 100, 190, 160), (30, 40, 20, 60),
                                 (-60, 20, 4e9, 60)])
def test_a_box_that_shows_nothing_is_refused(scene, box):
    """Too narrow, its middle outside, turned around, and larger than any memory."""
    with pytest.raises(ValueError, match='8 pixels wide and high at least, no larger than'):
        CorrelationTracker(scene((80, 60))[0], box, TrackParams())


@pytest.mark.parametrize(('name', 'box'), [
    ('bus.jpg', (50, 400, 245, 903)), ('coffee.png', (380, 60, 480, 160))])
def test_a_camera_that_moves_over_a_photo(data_dir, name, box):
    """A view of 160 x 120 sways, zooms by a quarter, darkens and brightens."""
    photo = cv2.imread(str(data_dir / 'images' / name))
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2.0
    zoom = 50.0 / (box[3] - box[1])
    rng = np.random.default_rng(0)
    tracker, overlaps = None, []
    for n in range(60):
        a = n / 60 * 2 * np.pi
        k = zoom * (1 + 0.25 * np.sin(a))
        place = middle + np.array([np.sin(a), np.sin(2 * a)]) * 25 / zoom
        turn = np.array([[k, 0, WIDTH / 2 - k * place[0]], [0, k, HEIGHT / 2 - k * place[1]]])
        view = cv2.warpAffine(photo, turn, (WIDTH, HEIGHT), flags=cv2.INTER_AREA,
                              borderMode=cv2.BORDER_REFLECT)
        noisy = view * (1 + 0.4 * np.sin(1.5 * a)) + rng.normal(0, 4, view.shape)
        rgb = np.clip(noisy, 0, 255).astype(np.uint8)
        true = np.reshape(np.reshape(box, (2, 2)) * k + turn[:, 2], (1, 4)).astype(np.float32)
        if tracker is None:
            tracker = CorrelationTracker(rgb, true[0], TrackParams())
            continue
        target = tracker.step(rgb)
        assert target is not None, n
        overlaps.append(overlap(target, true))
    assert min(overlaps) > 0.6
    assert np.mean(overlaps) > 0.75

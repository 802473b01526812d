"""No pixel of what is found is left, however it is hidden."""

import numpy as np
from perception_nodes.core.anonymisation import AnonymisationParams, Anonymiser
from perception_nodes.core.types import Detections
import pytest

LOW, HIGH = 0, 200  # the only values of the picture that is hidden


class FixedModel:
    """Finds the same boxes, (left, top, right, bottom, score, class), in every frame."""

    class_names = {1: 'person', 2: 'car'}
    needs_suppression = True

    def __init__(self, *rows):
        table = np.array(rows, np.float32).reshape(-1, 6)
        self.found = Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))

    def predict(self, frames):
        return [self.found for _ in frames]


def picture(height=120, width=160, channels=(3,), dtype=np.uint8):
    """Return noise of two values, so that no mean of a few dozen pixels is one of them."""
    rng = np.random.default_rng(5)
    return rng.choice(np.array([LOW, HIGH], dtype), (height, width, *channels))


def hidden(rows, params=None, image=None):
    """Return a picture, its anonymised copy, and a mask of the pixels that changed."""
    image = picture() if image is None else image
    anonymiser = Anonymiser(FixedModel(*rows), params or AnonymisationParams())
    [regions] = anonymiser.find([picture(*image.shape[:2])])
    before = image.copy()
    after = anonymiser.hide(image, regions)
    np.testing.assert_array_equal(image, before)  # frames are shared
    expected = np.zeros(image.shape[:2], bool)
    for region in regions:
        expected[region] = True
    return image, after, expected


@pytest.mark.parametrize('method', ['blur', 'fill'])
@pytest.mark.parametrize(('channels', 'dtype'), [
    ((3,), np.uint8), ((4,), np.uint8), ((), np.uint8), ((), np.uint16)])
def test_no_pixel_of_a_region_stays(method, channels, dtype):
    """Inside the grown box every pixel is a mean; outside every pixel is what it was."""
    before, after, region = hidden(
        [[40, 30, 100, 90, 0.9, 1]], AnonymisationParams(method=method),
        picture(channels=channels, dtype=dtype))
    grown = np.zeros_like(region)
    grown[21:99, 31:109] = True  # by 15 % of 60 pixels on each side
    np.testing.assert_array_equal(region, grown)
    np.testing.assert_array_equal(after[~region], before[~region])
    inside = after[region]
    if method == 'blur':
        assert ((inside > LOW + 60) & (inside < HIGH - 60)).all()
        assert len(np.unique(inside.reshape(len(inside), -1), axis=0)) <= 16
    else:
        assert (inside == np.iinfo(dtype).max // 2).all()


def test_four_by_four_means_are_left_of_a_region():
    """A black and white halves' picture keeps its halves, and nothing finer."""
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, 50:] = 200
    _, after, region = hidden([[20, 20, 80, 80, 0.9, 1]], image=image)
    assert region.sum() == 78 * 78
    columns = after[50, :, 0]
    np.testing.assert_array_equal(columns, [0] * 50 + [200] * 50)
    image[::2] = 255 - image[::2]
    _, after, region = hidden([[20, 20, 80, 80, 0.9, 1]], image=image)
    assert np.ptp(after[region].astype(int), axis=0).max() <= 40  # stripes are gone


@pytest.mark.parametrize('box', [
    [50, 50, 51, 51], [0, 0, 2, 2], [158, 118, 160, 120], [-20, -20, 1, 1], [70, 0, 71, 120]])
def test_small_and_cut_regions_keep_nothing_either(box):
    """However small the box, or where the image cuts it, some 25 pixels are mixed."""
    _, after, region = hidden([[*box, 0.9, 1]])
    assert region.sum() >= 25
    assert ((after[region] > LOW + 20) & (after[region] < HIGH - 20)).all()


def test_overlapping_people_are_all_hidden():
    before, after, region = hidden(
        [[20, 20, 80, 100, 0.9, 1], [60, 30, 120, 110, 0.8, 1], [70, 40, 75, 45, 0.7, 1]])
    assert ((after[region] > LOW + 50) & (after[region] < HIGH - 50)).all()
    np.testing.assert_array_equal(after[~region], before[~region])


def test_only_chosen_classes_above_the_threshold():
    rows = [[10, 10, 50, 50, 0.35, 1], [60, 60, 100, 100, 0.9, 2], [110, 10, 150, 50, 0.2, 1]]
    _, _, region = hidden(rows)
    assert region[30, 30]
    assert not region[80, 80]
    assert not region[30, 130]
    _, _, region = hidden(rows, AnonymisationParams(classes=(), score_threshold=0.1))
    assert region[30, 30] and region[80, 80] and region[30, 130]


def test_nothing_found_changes_nothing():
    before, after, region = hidden([])
    assert not region.any()
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(('row', 'what'), [
    ([10, 10, 50, 50, np.nan, 1], 'score'), ([10, np.nan, 50, 50, 0.9, 1], 'box')])
def test_an_answer_that_is_no_number_is_not_taken_for_nothing(row, what):
    anonymiser = Anonymiser(FixedModel(row), AnonymisationParams())
    with pytest.raises(ValueError, match=f"{what} of the model's answer is not a number"):
        anonymiser.find([picture()])


def test_a_class_that_the_model_does_not_know_is_refused():
    with pytest.raises(ValueError, match="'classes' names class 'face'"):
        Anonymiser(FixedModel(), AnonymisationParams(classes=('face',)))


@pytest.mark.slow
def test_the_shipped_detector_finds_nobody_in_what_is_left(data_dir):
    """On a photo with several people: what is hidden from it is hidden."""
    pytest.importorskip('onnxruntime')
    import cv2
    from perception_nodes.backends.registry import load_model
    params = AnonymisationParams()
    model = load_model(params.entry('detection', use_sim_time=False), 'cpu')
    bgr = cv2.imread(str(data_dir / 'images' / 'bus.jpg'))
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    anonymiser = Anonymiser(model, params)
    [regions] = anonymiser.find([rgb])
    assert len(regions) >= 3
    [again] = model.predict([anonymiser.hide(rgb, regions)])
    person = next(i for i, name in model.class_names.items() if name == 'person')
    assert again.scores[again.class_ids == person].max() < 0.5

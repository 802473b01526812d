"""The auto-encoder for spoilt pictures: what it learns, and what it refuses."""

import json

import cv2
import numpy as np
from perception_nodes.cli.main import main
from perception_nodes.evaluation.corruptions import corrupt
import pytest

torch = pytest.importorskip('torch')
from perception_nodes.backends.enhancement import Enhancer  # noqa: E402
from perception_nodes.backends.networks.enhancement import EnhancementNetwork  # noqa: E402
from perception_nodes.training.enhancement import spoilt  # noqa: E402
from perception_nodes.training.export import export_safetensors  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def squares(seed, width=128, height=128):
    """Return a picture of sharp squares."""
    coarse = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


@pytest.fixture
def pictures(tmp_path):
    """Write pictures to learn from, and two to validate on."""
    for split, count in (('train', 32), ('val', 2)):
        (tmp_path / 'set' / split / 'images').mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(tmp_path / 'set' / split / 'images' / f'{i}.png'),
                        squares(i + 1000 * (split == 'val')))
    return tmp_path / 'set'


def test_before_training_pictures_come_out_as_they_went_in():
    """Of any size, also those that are no multiple of the stride."""
    enhancer = Enhancer(EnhancementNetwork().eval(), torch.device('cpu'))
    for width, height in ((64, 48), (61, 47), (4, 5)):
        rgb = squares(0, width, height)
        np.testing.assert_array_equal(enhancer(rgb), rgb)


def test_noise_becomes_less(pictures, tmp_path):
    """Within seconds only a little; the file that is written does what was validated."""
    out = tmp_path / 'out'
    command = ['train', 'enhancement', str(pictures), '--out', str(out), '--epochs', '15',
               '--batch-size', '2', '--validate-every', '15', '--average', '0.95',
               '--learning-rate', '0.003', '--device', 'cpu']
    assert main(command) == 0
    row = json.loads((out / 'history.jsonl').read_text().splitlines()[-1])
    assert row['PSNR'] > row['PSNR_before'] + 0.05
    enhancer = Enhancer.from_file(out / 'enhancement.safetensors')
    good = squares(200)
    bad = corrupt(good, 'noise', 3, 0)

    def error(rgb):
        return np.abs(rgb.astype(float) - good).mean()

    assert error(enhancer(bad)) < error(bad)
    written = (out / 'enhancement.safetensors').read_bytes()
    assert main(command) == 0, 'a finished training is not trained again'
    assert (out / 'enhancement.safetensors').read_bytes() == written


def test_pictures_are_spoilt_in_many_ways():
    """The same seed spoils alike; some pictures stay as they are."""
    good = squares(3)
    worse = [spoilt(good, np.random.default_rng(i)) for i in range(100)]
    np.testing.assert_array_equal(worse[7], spoilt(good, np.random.default_rng(7)))
    assert all(bad.shape == good.shape and bad.dtype == np.uint8 for bad in worse)
    untouched = sum(np.array_equal(bad, good) for bad in worse)
    assert 10 <= untouched <= 50


@pytest.mark.parametrize(('damage', 'said'), [
    ('missing', "has no split 'val'"), ('empty', 'holds no pictures'),
    ('small', '1.png has 60x128 pixels; crops of 64x64'), ('cut', '1.png cannot be read')])
def test_a_set_that_cannot_be_learned_from_is_named(pictures, tmp_path, capsys, damage, said):
    val = pictures / 'val' / 'images'
    if damage == 'missing':
        (pictures / 'val').rename(tmp_path / 'elsewhere')
    elif damage == 'empty':
        for file in val.iterdir():
            file.unlink()
    elif damage == 'small':
        cv2.imwrite(str(val / '1.png'), squares(0, 60))
    else:
        (val / '1.png').write_bytes((val / '1.png').read_bytes()[:60])
    assert main(['train', 'enhancement', str(pictures), '--out', str(tmp_path / 'out')]) == 1
    shown = capsys.readouterr().err
    assert said in shown and 'Traceback' not in shown
    assert not (tmp_path / 'out').exists()


def test_weights_of_something_else_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='perception train enhancement'):
        Enhancer.from_file(tmp_path / 'none.safetensors')
    export_safetensors(torch.nn.Linear(2, 3), tmp_path / 'other.safetensors')
    with pytest.raises(ValueError, match='not those of the enhancement network'):
        Enhancer.from_file(tmp_path / 'other.safetensors')

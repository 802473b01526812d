"""Folders, videos and cameras as sources of pictures."""

import cv2
import numpy as np
from perception_nodes.cli import pictures
from perception_nodes.cli.pictures import open_pictures
import pytest

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def flat(colour, width=32, height=24):
    """Return a picture of one RGB colour."""
    return np.full((height, width, 3), colour, np.uint8)


def save(path, rgb):
    assert cv2.imwrite(str(path), rgb[..., ::-1])


def save_video(path, count, rate_hz):
    """Write a video whose frame n has the grey level 10 n."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), rate_hz, (64, 48))
    assert writer.isOpened()
    for n in range(count):
        writer.write(flat((10 * n,) * 3, 64, 48))
    writer.release()


def levels(source):
    return [round(float(picture.rgb.mean()) / 10) for picture in source]


class TestFolder:
    def test_pictures_come_in_natural_order_as_rgb(self, tmp_path):
        for name, colour in (('p10.png', BLUE), ('p9.png', GREEN), ('p1.PNG', RED)):
            save(tmp_path / name, flat(colour))
        (tmp_path / 'notes.txt').write_text('no picture')
        source = open_pictures(str(tmp_path))
        assert source.count() == 3
        assert source.rate_hz == 5.0
        found = [(picture.name, tuple(picture.rgb[0, 0])) for picture in source]
        assert found == [('p1.PNG', RED), ('p9.png', GREEN), ('p10.png', BLUE)]

    def test_grey_and_transparent_pictures_become_rgb(self, tmp_path):
        cv2.imwrite(str(tmp_path / 'a.png'), np.full((4, 4), 7, np.uint8))
        cv2.imwrite(str(tmp_path / 'b.png'), np.full((4, 4, 4), 9, np.uint8))
        assert [picture.rgb.shape for picture in open_pictures(str(tmp_path))] == [(4, 4, 3)] * 2

    def test_a_broken_picture_is_named_and_skipped(self, tmp_path, caplog):
        save(tmp_path / 'a.png', flat(RED))
        (tmp_path / 'b.jpg').write_bytes(b'no picture')
        (tmp_path / 'c.png').write_bytes((tmp_path / 'a.png').read_bytes()[:20])
        save(tmp_path / 'd.png', flat(BLUE))
        source = open_pictures(str(tmp_path))
        assert [picture.name for picture in source] == ['a.png', 'd.png']
        assert source.skipped == 2
        assert 'b.jpg' in caplog.text and 'c.png' in caplog.text

    def test_it_can_be_gone_through_again(self, tmp_path):
        save(tmp_path / 'a.png', flat(RED))
        source = open_pictures(str(tmp_path / 'a.png'))
        assert len(list(source)) == len(list(source)) == 1

    def test_start_skips_seconds(self, tmp_path):
        for n in range(8):
            save(tmp_path / f'{n}.png', flat((10 * n,) * 3))
        assert levels(open_pictures(str(tmp_path), start_s=1.0)) == [5, 6, 7]
        with pytest.raises(ValueError, match=r'start is 1.6 s, but 8 picture\(s\) at 5 Hz'):
            open_pictures(str(tmp_path), start_s=1.6)

    def test_pictures_are_stretched_on_request(self, tmp_path):
        save(tmp_path / 'a.png', flat(RED))
        (picture,) = open_pictures(str(tmp_path), size=(10, 20))
        assert picture.rgb.shape == (20, 10, 3)
        assert (picture.rgb == RED).all()


class TestVideo:
    def test_every_frame_at_its_own_rate(self, tmp_path):
        save_video(tmp_path / 'v.avi', 12, 10.0)
        source = open_pictures(str(tmp_path / 'v.avi'))
        assert source.rate_hz == pytest.approx(10.0)
        assert source.count() == 12
        assert levels(source) == list(range(12))
        assert levels(source) == list(range(12))

    def test_start_skips_seconds(self, tmp_path):
        save_video(tmp_path / 'v.avi', 12, 10.0)
        source = open_pictures(str(tmp_path / 'v.avi'), start_s=0.9)
        assert source.count() == 3
        assert levels(source) == [9, 10, 11]
        with pytest.raises(ValueError, match='start is 2 s, but video .* lasts 1.2 s'):
            open_pictures(str(tmp_path / 'v.avi'), start_s=2.0)

    def test_a_video_without_frames(self, tmp_path):
        save_video(tmp_path / 'v.avi', 0, 10.0)
        with pytest.raises((ValueError, OSError), match=r'v\.avi'):
            open_pictures(str(tmp_path / 'v.avi'))


@pytest.mark.parametrize(('name', 'kind', 'sentence'), [
    ('missing', FileNotFoundError, 'does not exist; name a folder of pictures'),
    ('empty', ValueError, 'holds no picture'),
    ('words.mp4', OSError, 'neither a picture nor a video'),
])
def test_what_cannot_be_opened_is_said(tmp_path, name, kind, sentence):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'words.mp4').write_text('words')
    with pytest.raises(kind, match=sentence):
        open_pictures(str(tmp_path / name))


@pytest.mark.parametrize(('source', 'sentence'), [
    ('97', 'there is no /dev/video97'),
    ('/dev/video97', 'there is no /dev/video97'),
    ('http://127.0.0.1:9/stream', 'is its address right'),
])
def test_missing_camera_is_said(source, sentence):
    with pytest.raises(OSError, match=sentence):
        open_pictures(source)


def test_a_camera_that_stops_is_opened_again(monkeypatch, caplog, camera):
    monkeypatch.setattr(pictures, '_FIRST_PAUSE_S', 0.05)
    source = open_pictures(camera.url)
    assert source.rate_hz is None and source.count() is None
    stream = iter(source)
    found = []
    while camera.connections < 5:
        found.append(next(stream))
    stream.close()
    assert all(abs(picture.rgb.astype(int) - GREEN).max() < 8 for picture in found)
    assert 'stopped delivering' in caplog.text


def test_a_live_camera_has_no_start(camera):
    with pytest.raises(ValueError, match='live camera: it has no start'):
        open_pictures(camera.url, start_s=1.0)

"""Messages to arrays: known pixels through every encoding, byte order and row length."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
from perception_nodes.conversions.decode import (
    depth_m_from_compressed_msg,
    depth_m_from_msg,
    intrinsics_from_msg,
    is_rectified,
    laser_ranges_from_msg,
    rgb_from_compressed_msg,
    rgb_from_msg,
    stamp_ns_from_msg,
)
import pytest

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
ALPHA = np.full((2, 3, 1), 99, np.uint8)


def image(pixels, encoding, *, padding=0, big_endian=False, cut=0):
    """
    Build an image message as a bag reader gives it: plain attributes, no ROS.

    :param padding: Bytes after each row, filled with a value that must not be seen.
    :param cut: Bytes missing at the end of the buffer.
    """
    pixels = np.asarray(pixels)
    if big_endian:
        pixels = pixels.astype(pixels.dtype.newbyteorder('>'))
    row_bytes = pixels.itemsize * int(np.prod(pixels.shape[1:]))
    rows = np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape[0], row_bytes)
    step = row_bytes + padding
    padded = np.full((pixels.shape[0], step), 0xEE, np.uint8)
    padded[:, :rows.shape[1]] = rows
    data = padded.tobytes()
    return SimpleNamespace(
        height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=step,
        is_bigendian=int(big_endian), data=data[:len(data) - cut])


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize(('encoding', 'pixels'), [
    ('rgb8', RGB), ('bgr8', RGB[..., ::-1]), ('rgba8', np.dstack([RGB, ALPHA])),
    ('bgra8', np.dstack([RGB[..., ::-1], ALPHA]))])
def test_colour_encodings_become_rgb(encoding, pixels, padding):
    """Channels are in order, alpha is gone, row padding is not seen."""
    decoded = rgb_from_msg(image(pixels, encoding, padding=padding))
    np.testing.assert_array_equal(decoded, RGB)
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_a_mosaic_of_one_colour_has_it_everywhere(pattern, padding):
    colour = dict(zip('rgb', (200, 100, 50), strict=True))
    tile = np.array([colour[c] for c in pattern], np.uint8).reshape(2, 2)
    decoded = rgb_from_msg(image(np.tile(tile, (3, 4)), f'bayer_{pattern}8', padding=padding))
    assert decoded.shape == (6, 8, 3)
    assert (decoded == [200, 100, 50]).all()


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize(('encoding', 'order'), [
    ('uyvy', 'uyvy'), ('yuv422', 'uyvy'), ('yuyv', 'yuyv'), ('yuv422_yuy2', 'yuyv')])
def test_two_pixels_that_share_a_colour_keep_their_brightness(encoding, order, padding):
    """Red beside black beside white by ITU-R BT.601: luma 16 to 235, chroma around 128."""
    y, u, v = iter([82, 82, 16, 235]), iter([90, 128]), iter([240, 128])
    row = [next({'y': y, 'u': u, 'v': v}[c]) for c in 2 * order]
    decoded = rgb_from_msg(
        image(np.array(row, np.uint8).reshape(1, 4, 2), encoding, padding=padding))
    expected = [[255, 0, 0], [255, 0, 0], [0, 0, 0], [255, 255, 255]]
    np.testing.assert_allclose(decoded[0], expected, atol=3)


@pytest.mark.parametrize('padding', [0, 2])
@pytest.mark.parametrize('big_endian', [False, True])
def test_grey_encodings_become_three_equal_channels(padding, big_endian):
    """mono16 keeps its upper byte in either byte order."""
    grey = np.array([[0, 7, 255], [1, 2, 3]], np.uint8)
    expected = np.dstack([grey] * 3)
    wide = grey.astype(np.uint16) * 256 + 17
    np.testing.assert_array_equal(
        rgb_from_msg(image(grey, 'mono8', padding=padding)), expected)
    np.testing.assert_array_equal(
        rgb_from_msg(image(wide, 'mono16', padding=padding, big_endian=big_endian)), expected)


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('big_endian', [False, True])
def test_depth_encodings_become_metres(padding, big_endian):
    """Millimetres are scaled, metres kept; what is no distance stays marked as such."""
    mm = np.array([[0, 1, 1500], [65535, 2, 3]], np.uint16)
    decoded = depth_m_from_msg(image(mm, '16UC1', padding=padding, big_endian=big_endian))
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, [[np.nan, 0.001, 1.5], [65.535, 0.002, 0.003]], rtol=1e-6)
    m = np.array([[0.0, np.nan, np.inf], [-np.inf, 1.25, 3.0]], np.float32)
    decoded = depth_m_from_msg(image(m, '32FC1', padding=padding, big_endian=big_endian))
    np.testing.assert_array_equal(decoded, [[np.nan, np.nan, np.inf], [-np.inf, 1.25, 3.0]])


def test_zero_millimetres_can_mean_beyond_range():
    """The parameter decides, because drivers differ."""
    decoded = depth_m_from_msg(image(np.zeros((1, 1), np.uint16), '16UC1'), 'beyond_range')
    assert decoded[0, 0] == np.inf


def test_last_row_may_lack_its_padding():
    """Some drivers send no bytes after the last pixel."""
    msg = image(RGB, 'rgb8', padding=4, cut=4)
    np.testing.assert_array_equal(rgb_from_msg(msg), RGB)


@pytest.mark.parametrize(('msg', 'sentence'), [
    (image(RGB, 'nv21'), "encoding 'nv21'; supported are rgb8, .*where cv_bridge is"),
    (image(RGB[..., :2], 'yuyv'), 'is 3 pixels wide; .* the width must be even'),
    (image(np.zeros((2, 2), np.uint16), '16UC1'), 'remap the depth topic'),
    (image(RGB, 'rgb8', cut=1), 'holds 17 bytes; 3x2 in .rgb8. with step 9 needs 18'),
    (image(RGB[:0], 'rgb8'), 'image is 3x0 pixels'),
    (image(RGB[:, :0], 'rgb8'), 'image is 0x2 pixels'),
])
def test_wrong_colour_images_are_explained(msg, sentence):
    """The sentence says what is wrong and with which value."""
    with pytest.raises(ValueError, match=sentence):
        rgb_from_msg(msg)


def test_step_shorter_than_a_row_is_refused():
    """A row cannot start inside the one before it."""
    msg = image(RGB, 'rgb8')
    msg.step = 8
    with pytest.raises(ValueError, match='needs rows of 9 bytes; step says 8'):
        rgb_from_msg(msg)


def test_colour_is_no_depth():
    """A colour image on the depth topic is named."""
    with pytest.raises(ValueError, match="depth image has encoding 'rgb8'"):
        depth_m_from_msg(image(RGB, 'rgb8'))


def region(x_offset, y_offset, width, height):
    return SimpleNamespace(x_offset=x_offset, y_offset=y_offset, width=width, height=height)


def camera_info(**changes):
    """Build the camera_info of a 640x480 camera."""
    values = {'width': 640, 'height': 480, 'distortion_model': 'plumb_bob',
              'd': [0.0] * 5, 'k': [500.0, 0, 320, 0, 501.0, 240, 0, 0, 1],
              'binning_x': 0, 'binning_y': 0, 'roi': region(0, 0, 0, 0)}
    return SimpleNamespace(**values | changes)


def test_intrinsics_are_read():
    """K gives the pinhole; zero distortion is no distortion."""
    k = intrinsics_from_msg(camera_info())
    assert (k.width, k.height, k.fx, k.fy, k.cx, k.cy) == (640, 480, 500, 501, 320, 240)
    assert k.distortion == ()
    assert intrinsics_from_msg(camera_info(d=[-0.3, 0, 0, 0, 0])).distortion[0] == -0.3


@pytest.mark.parametrize(('changes', 'sentence'), [
    ({'k': [0.0] * 9}, 'fx=0.0, fy=0.0; both must be positive'),
    ({'width': 0}, 'image of 0x480 pixels'),
    ({'d': [0.1] * 4, 'distortion_model': 'equidistant'}, "model 'equidistant'"),
])
def test_unusable_camera_info_is_explained(changes, sentence):
    """An unfilled or exotic camera_info is no camera."""
    with pytest.raises(ValueError, match=sentence):
        intrinsics_from_msg(camera_info(**changes))


@pytest.mark.parametrize(('changes', 'size', 'k'), [
    ({'binning_x': 2, 'binning_y': 3}, (320, 160), (250, 167, 160, 80)),
    ({'roi': region(100, 40, 400, 301)}, (400, 301), (500, 501, 220, 200)),
    ({'roi': region(100, 40, 400, 301), 'binning_x': 2, 'binning_y': 1},
     (200, 301), (250, 501, 110, 200)),
    ({'roi': region(0, 0, 640, 480), 'binning_x': 1}, (640, 480), (500, 501, 320, 240))])
@pytest.mark.parametrize('rectified', [False, True])
def test_a_region_and_binning_change_the_camera(changes, size, k, rectified):
    """As sensor_msgs/CameraInfo says: the region in full pixels, then binning."""
    p = [500.0, 0, 320, 0, 0, 501.0, 240, 0, 0, 0, 1, 0]
    camera = intrinsics_from_msg(camera_info(**changes, p=p), rectified)
    assert (camera.width, camera.height) == size
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == k


def test_stamp_is_nanoseconds():
    """Seconds and nanoseconds add up without rounding."""
    assert stamp_ns_from_msg(SimpleNamespace(sec=1700000000, nanosec=123456789)) \
        == 1_700_000_000_123_456_789


def compressed(data, format_):
    """Build a CompressedImage as a bag reader gives it."""
    return SimpleNamespace(data=data, format=format_)


def test_compressed_colour():
    """A PNG survives exactly, a JPEG nearly; the result is RGB."""
    smooth = np.dstack([np.full((16, 16), v, np.uint8) for v in (200, 100, 50)])
    png = cv2.imencode('.png', smooth[..., ::-1])[1].tobytes()
    jpeg = cv2.imencode('.jpg', smooth[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(rgb_from_compressed_msg(compressed(png, 'png')), smooth)
    near = rgb_from_compressed_msg(compressed(jpeg, 'bgr8; jpeg compressed bgr8'))
    assert np.abs(near.astype(int) - smooth).max() <= 4


def test_compressed_depth_in_millimetres():
    """Behind the twelve bytes of settings lies a PNG of millimetres."""
    mm = np.array([[0, 1500], [65535, 3]], np.uint16)
    data = bytes(12) + cv2.imencode('.png', mm)[1].tobytes()
    np.testing.assert_allclose(
        depth_m_from_compressed_msg(compressed(data, '16UC1; compressedDepth png')),
        [[np.nan, 1.5], [65.535, 0.003]])


def test_compressed_depth_in_metres():
    """32FC1 is sent as quantised inverse depth: depth = A / (value - B)."""
    depth_m = np.array([[0.5, 2.0, 8.0]], np.float32)
    a, b = np.float32(100.0 * 101.0), np.float32(1.0 - 100.0)
    values = np.append(a / depth_m + b, [[0.0]], axis=1).round().astype(np.uint16)
    data = b'\0\0\0\0' + a.tobytes() + b.tobytes() + cv2.imencode('.png', values)[1].tobytes()
    decoded = depth_m_from_compressed_msg(compressed(data, '32FC1; compressedDepth png'))
    np.testing.assert_allclose(decoded, [[0.5, 2.0, 8.0, np.nan]], rtol=2e-3)


@pytest.mark.parametrize('msg', [
    compressed(b'', 'jpeg'), compressed(b'\xff\xd8\xff nonsense', 'jpeg')])
def test_broken_compressed_images_are_explained(msg):
    """No bytes and wrong bytes are said with their number."""
    with pytest.raises(ValueError, match=f'{len(msg.data)} bytes.*whole JPEG or PNG'):
        rgb_from_compressed_msg(msg)


@pytest.mark.parametrize('format_', ['16UC1; compressedDepth rvl', 'bgr8; jpeg', '16UC1; png'])
def test_unsupported_compressed_depth_is_explained(format_):
    """The sentence says what is supported."""
    with pytest.raises(ValueError, match="supported are '16UC1; compressedDepth png'"):
        depth_m_from_compressed_msg(compressed(bytes(40), format_))


def test_rectified_images_use_the_rectified_camera():
    """On image_rect topics P counts and distortion is gone."""
    assert is_rectified('/camera/image_rect_color')
    assert not is_rectified('/image_rect/image_raw')
    info = camera_info(d=[-0.3, 0, 0, 0, 0], p=[400.0, 0, 310, 0, 0, 401.0, 230, 0, 0, 0, 1, 0])
    k = intrinsics_from_msg(info, rectified=True)
    assert (k.fx, k.fy, k.cx, k.cy, k.distortion) == (400.0, 401.0, 310.0, 230.0, ())


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize(('encoding', 'pixels'), [
    ('rgb8', RGB), ('bgr8', RGB[..., ::-1]), ('rgba8', np.dstack([RGB, ALPHA])),
    ('bgra8', np.dstack([RGB[..., ::-1], ALPHA])), ('mono8', RGB[..., 0])])
def test_colours_are_those_of_cv_bridge(encoding, pixels, padding):
    """Byte for byte, where there is a cv_bridge to ask."""
    cv_bridge = pytest.importorskip(
        'cv_bridge', reason='cv_bridge is not installed: needs a ROS install')
    msg = image(pixels, encoding, padding=padding)
    theirs = cv_bridge.CvBridge().imgmsg_to_cv2(msg, 'rgb8')
    np.testing.assert_array_equal(rgb_from_msg(msg), theirs)


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('big_endian', [False, True])
def test_depth_is_that_of_cv_bridge(padding, big_endian):
    """Either byte order gives the numbers of cv_bridge, where there is one."""
    cv_bridge = pytest.importorskip(
        'cv_bridge', reason='cv_bridge is not installed: needs a ROS install')
    mm = np.array([[1, 2, 1500], [65535, 256, 3]], np.uint16)
    msg = image(mm, '16UC1', padding=padding, big_endian=big_endian)
    theirs = cv_bridge.CvBridge().imgmsg_to_cv2(msg, 'passthrough')
    np.testing.assert_array_equal(depth_m_from_msg(msg), theirs * np.float32(0.001))


def test_exotic_encodings_go_through_cv_bridge_where_it_is(monkeypatch):
    """The bridge gets the message as it is; its RGB comes back."""
    class Bridge:
        def imgmsg_to_cv2(self, msg, encoding):
            assert (msg.encoding, encoding) == ('bayer_rggb16', 'rgb8')
            return RGB

    monkeypatch.setitem(sys.modules, 'cv_bridge', SimpleNamespace(CvBridge=Bridge))
    decoded = rgb_from_msg(image(np.zeros((2, 3), np.uint16), 'bayer_rggb16'))
    np.testing.assert_array_equal(decoded, RGB)


def laser_scan(**fields):
    ranges = np.array([1.0, np.nan, np.inf, -np.inf], np.float32)
    msg = {'ranges': ranges, 'angle_min': -0.5, 'angle_max': 0.25, 'angle_increment': 0.25,
           'range_min': 0.1, 'range_max': 8.0, 'header': SimpleNamespace(
               stamp=SimpleNamespace(sec=3, nanosec=5), frame_id='laser')}
    return SimpleNamespace(**{**msg, **fields})


def test_a_laser_scan_keeps_what_its_ranges_mean():
    scan = laser_ranges_from_msg(laser_scan())
    np.testing.assert_array_equal(scan.ranges_m, [1.0, np.nan, np.inf, -np.inf])
    assert scan.angles_rad == pytest.approx([-0.5, -0.25, 0.0, 0.25])
    assert (scan.range_min_m, scan.range_max_m) == (0.1, 8.0)
    assert (scan.stamp_ns, scan.frame_id) == (3_000_000_005, 'laser')


@pytest.mark.parametrize(('fields', 'sentence'), [
    ({'ranges': []}, 'has no ranges'),
    ({'angle_increment': 0.0}, '0 rad apart'),
    ({'angle_increment': float('nan')}, 'nan rad apart'),
    ({'angle_increment': 90.0}, 'does the driver give degrees'),
    ({'angle_min': float('inf')}, 'from inf rad on'),
    ({'angle_max': 2.5}, 'angle_max is 2.5 rad: which of them is wrong'),
    ({'angle_max': float('nan')}, 'angle_max is nan rad'),
    ({'range_min': 9.0}, 'range_min the smaller'),
    ({'range_max': float('inf')}, 'both must be finite'),
])
def test_a_laser_scan_that_cannot_be_is_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        laser_ranges_from_msg(laser_scan(**fields))

"""The evaluation of small bags whose answers are known."""

import json
import shutil

import numpy as np
from perception_nodes.cli.main import main
import pytest

pytestmark = pytest.mark.timeout(600)  # the first test compiles and imports for all others

NAMES = {3: 'table', 4: 'chair'}
TRUTH = '/simulation/ground_truth'
STAMPS_NS = [1_000_000_000 + n * 100_000_000 for n in range(10)]


def evaluate(bag, out, *flags):
    """Run the verb; return its exit code, figures and page."""
    code = main(['evaluate', str(bag), '--out', str(out), *flags])
    if not (out / 'evaluation.json').exists():
        return code, {}, ''
    return code, json.loads((out / 'evaluation.json').read_text()), (
        out / 'report.html').read_text()


@pytest.fixture
def room(small_bag, boxes):
    """
    Record a table and a chair over ten frames, and a vendor's node that sees both.

    It misses the chair in frames 3 and 4, and names its classes as it likes.
    """
    bag = small_bag()
    bag.labels(NAMES)
    bag.labels({1: 'desk', 2: 'seat'}, '/vendor/label_info')
    table, chair = (10, 10, 40, 40), (50, 30, 62, 46)
    for n, stamp_ns in enumerate(STAMPS_NS):
        bag.image(stamp_ns, np.full((48, 64, 3), 80, np.uint8))
        bag.boxes(stamp_ns, boxes([(*table, 1.0, 3), (*chair, 1.0, 4)], [1, 2]))
        seen = [(*table, 0.9, 1), (*chair, 0.8, 2)]
        bag.boxes(stamp_ns, boxes(seen[:1] if n in (3, 4) else seen), '/vendor/found',
                  delay_ns=30_000_000)
    return bag.close()


def test_recorded_boxes_are_scored(room, tmp_path, capsys):
    """The table is found always, AP 1; the chair in 8 of 10 frames, AP 0.8 by 101 recalls."""
    code, figures, page = evaluate(
        room, tmp_path / 'out', '--recorded', '/vendor/found', '--map', 'desk=table,seat=chair')
    name = 'recorded_vendor_found'
    assert code == 0
    assert figures[f'{name}_AP50_desk'] == pytest.approx(1.0)
    assert figures[f'{name}_AP50_seat'] == pytest.approx(81 / 101, abs=1e-6)
    assert figures[f'{name}_AP50'] == pytest.approx((1.0 + 81 / 101) / 2, abs=1e-6)
    assert figures[f'{name}_labelled_frames'] == figures['frames'] == 10
    # of 16 objects seen on both sides of a frame the chair is missing in no single one between
    assert figures[f'{name}_boxes_per_frame'] == pytest.approx(1.8)
    assert figures[f'{name}_age_ms_p95'] == pytest.approx(30.0)
    assert figures[f'{name}_dropped'] == 0
    assert {'n', 'seed', 'commit', 'wall_s'} <= figures.keys()
    assert 'Side by side' in page
    assert '10 frames' in page
    assert 'AP50' in capsys.readouterr().out


def test_in_real_time_the_newest_recorded_result_counts(room, tmp_path):
    """Results come 30 ms late: the first frame has none, each other that of the one before."""
    code, figures, _ = evaluate(
        room, tmp_path / 'out', '--recorded', '/vendor/found', '--map', 'desk=table,seat=chair',
        '--mode', 'realtime')
    assert code == 0
    assert figures['recorded_vendor_found_AP50_desk'] == pytest.approx(91 / 101, abs=1e-6)


def test_requirements_decide_the_exit_code(room, tmp_path, capsys):
    flags = ('--recorded', '/vendor/found', '--map', 'desk=table,seat=chair', '--require')
    name = 'recorded_vendor_found'
    assert evaluate(room, tmp_path / 'a', *flags, f'{name}_AP50>=0.85', f'{name}_AP50<=1')[0] == 0
    code, _, page = evaluate(
        room, tmp_path / 'b', *flags, f'{name}_AP50>=0.95', f'{name}_labeled_frames>=1')
    assert code == 1
    assert 'missed: recorded_vendor_found_AP50 is 0.901, required is &gt;= 0.95' in page
    assert "did you mean 'recorded_vendor_found_labelled_frames'" in capsys.readouterr().err


def test_foreign_classes_are_said(room, tmp_path, capsys):
    code, figures, _ = evaluate(room, tmp_path / 'out', '--recorded', '/vendor/found')
    assert code == 0
    assert not any(name.endswith('AP50') for name in figures)
    said = capsys.readouterr().err
    assert 'has the classes table, chair, and the model desk, seat' in said
    assert '--map' in said


@pytest.fixture
def colours(small_bag, colour_segmenter):
    """Record pictures red on the left and green on the right; the truth begins blue."""
    bag, manifest = small_bag('colours'), colour_segmenter()
    bag.labels({0: 'red', 1: 'green', 2: 'blue'})
    rgb, ids = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
    rgb[:, :32, 0], rgb[:, 32:, 1] = 255, 255
    ids[:, 32:] = 1
    ids[:12] = 2
    for stamp_ns in STAMPS_NS:
        bag.image(stamp_ns, rgb)
        bag.mask(stamp_ns, ids)
    params = manifest.parent / 'colours.yaml'
    params.write_text(f'segmentation: {{ros__parameters: {{model: colours, '
                      f'manifest: {manifest}}}}}\n')
    return bag.close(), params


def test_a_node_is_run_and_scored(colours, tmp_path):
    """A quarter of the picture is blue and is taken for the others: IoU 3/4, 3/4 and 0."""
    bag, params = colours
    code, figures, page = evaluate(bag, tmp_path / 'out', '--params', str(params))
    assert code == 0
    assert figures['segmentation_mIoU'] == pytest.approx(0.5, abs=0.01)
    assert figures['segmentation_IoU_red'] == pytest.approx(0.75, abs=0.01)
    assert figures['segmentation_pixel_accuracy'] == pytest.approx(0.75, abs=0.01)
    assert figures['segmentation_mask_flicker'] == 0.0
    assert figures['segmentation_processed'] == 10
    assert figures['segmentation_dropped'] == figures['segmentation_failed'] == 0
    assert figures['segmentation_compute_ms_p95'] > 0.0
    assert len(figures['lockstep_hash']) == 64
    assert 'mIoU' in page


@pytest.fixture
def flashes(small_bag, colour_classifier):
    """Record five red and five green pictures, of which two green ones are said to be red."""
    bag = small_bag('flashes')
    bag.labels({7: 'scarlet', 8: 'green'})
    for n, stamp_ns in enumerate(STAMPS_NS):
        rgb = np.zeros((48, 64, 3), np.uint8)
        rgb[..., int(n >= 5)] = 200
        bag.image(stamp_ns, rgb)
        bag.classification(stamp_ns, 7 if n < 7 else 8)
    params = colour_classifier.parent / 'colours.yaml'
    params.write_text('classification: {ros__parameters: {model: colours, '
                      f'manifest: {colour_classifier}}}}}\n')
    return bag.close(), params


def test_a_classifier_is_scored_on_what_the_bag_says(flashes, tmp_path):
    """All five red and three of five green are right; two reds are the least red pictures."""
    bag, params = flashes
    code, figures, page = evaluate(
        bag, tmp_path / 'out', '--params', str(params), '--map', 'red=scarlet')
    assert code == 0
    assert figures['classification_accuracy'] == pytest.approx(0.8)
    assert figures['classification_accuracy_ci_low'] <= 0.8
    assert figures['classification_labelled_frames'] == 10
    # red against green: 5 of 7 true ones come first, the other two are among all false ones
    assert figures['classification_roc_area'] == pytest.approx(6 / 7, abs=1e-6)
    assert 'ROC' in page
    assert 'is red' in page
    assert 'red 0.9' in page  # what the moments show


def test_a_classifier_is_scored_on_labels_of_a_file(flashes, tmp_path):
    """A picture with boxes of one class shows that class; one with two is not scored."""
    bag, params = flashes
    content = {'categories': [{'id': 1, 'name': 'red'}, {'id': 2, 'name': 'green'}],
               'images': [], 'annotations': []}
    for n, classes in ((0, [1]), (4, [1, 1]), (6, [1]), (8, [1, 2]), (9, [])):
        content['images'].append({
            'id': n, 'file_name': f'{STAMPS_NS[n]}.png', 'width': 64, 'height': 48})
        content['annotations'] += [{
            'id': 10 * n + k, 'image_id': n, 'category_id': class_id, 'bbox': [1, 1, 20, 20]}
            for k, class_id in enumerate(classes)]
    (tmp_path / 'labels.json').write_text(json.dumps(content))
    code, figures, _ = evaluate(bag, tmp_path / 'out', '--params', str(params),
                                '--labels', str(tmp_path / 'labels.json'))
    assert code == 0
    assert figures['classification_labelled_frames'] == 3
    assert figures['classification_accuracy'] == pytest.approx(2 / 3)


def test_labels_that_a_classifier_does_not_know(flashes, tmp_path, capsys):
    """They end an evaluation of it alone, and are a sentence where they are for a detector."""
    bag, params = flashes
    (tmp_path / 'labels.json').write_text(json.dumps({
        'categories': [{'id': 1, 'name': 'chair'}],
        'images': [{'id': 1, 'file_name': f'{STAMPS_NS[0]}.png', 'width': 64, 'height': 48}],
        'annotations': [{'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [1, 1, 20, 20]}]}))
    flags = ('--labels', str(tmp_path / 'labels.json'), '--params')
    assert evaluate(bag, tmp_path / 'alone', *flags, str(params))[0] == 1
    assert 'has boxes of chair, which the model does not know' in capsys.readouterr().err
    both = tmp_path / 'both.yaml'
    both.write_text(f'{params.read_text()}detection: {{ros__parameters: {{}}}}\n')
    code, figures, _ = evaluate(bag, tmp_path / 'both', *flags, str(both))
    assert code == 0
    assert 'classification: not scored, as the labels are for others' in capsys.readouterr().err
    assert figures['detection_labelled_frames'] == 1


def test_the_same_bag_has_the_same_hash(colours, tmp_path):
    """In both processes and in this one; another picture has another one."""
    bag, params = colours
    flags = ('--params', str(params))
    hashes = [evaluate(bag, tmp_path / name, *flags)[1]['lockstep_hash'] for name in 'ab']
    assert hashes[0] == hashes[1]


def test_many_bags_stand_side_by_side(colours, tmp_path):
    bag, params = colours
    shutil.copytree(bag, tmp_path / 'again')
    code = main(['evaluate', str(bag), str(tmp_path / 'again'), '--params', str(params),
                 '--out', str(tmp_path / 'out')])
    figures = json.loads((tmp_path / 'out' / 'evaluation.json').read_text())
    assert code == 0
    assert figures['colours_segmentation_mIoU'] == figures['again_segmentation_mIoU']
    assert figures['colours_lockstep_hash'] == figures['again_lockstep_hash']
    assert figures['n'] == 20


def test_a_bag_that_cannot_be_read_keeps_no_other_from_being_evaluated(
        colours, tmp_path, capsys):
    bag, params = colours
    code = main(['evaluate', str(bag), str(tmp_path / 'absent'), '--params', str(params),
                 '--out', str(tmp_path / 'out')])
    assert code == 1
    assert 'absent does not exist' in capsys.readouterr().err
    assert json.loads((tmp_path / 'out' / 'evaluation.json').read_text())['n'] == 10


def test_an_empty_bag_is_said(small_bag, tmp_path, capsys):
    assert evaluate(small_bag('empty').close(), tmp_path / 'out')[0] == 1
    assert 'empty is empty' in capsys.readouterr().err


def test_a_bag_without_pictures_is_said(small_bag, tmp_path, capsys):
    bag = small_bag('blind')
    bag.labels(NAMES)
    assert evaluate(bag.close(), tmp_path / 'out')[0] == 1
    said = capsys.readouterr().err
    assert '/camera/color/image_raw' in said
    assert f'{TRUTH}/label_info (1)' in said


def test_a_missing_topic_is_said(room, tmp_path, capsys):
    assert evaluate(room, tmp_path / 'out', '--recorded', '/vendor/fund')[0] == 1
    assert '--recorded /vendor/fund' in capsys.readouterr().err
    assert evaluate(room, tmp_path / 'out', '--image', '/front/image')[0] == 1
    assert '/front/image' in capsys.readouterr().err


def test_a_topic_of_another_type_is_said(room, tmp_path, capsys):
    assert evaluate(room, tmp_path / 'out', '--recorded', '/vendor/label_info')[0] == 1
    assert 'it carries vision_msgs/msg/LabelInfo' in capsys.readouterr().err
    assert evaluate(room, tmp_path / 'out', '--image', '/vendor/found')[0] == 1
    assert '/vendor/found' in capsys.readouterr().err


def test_a_cut_bag_is_evaluated_to_its_end(colours, tmp_path, capsys):
    """A file without its end, and a folder without metadata.yaml."""
    bag, params = colours
    file = next(bag.glob('*.mcap'))
    file.write_bytes(file.read_bytes()[:-200])
    (bag / 'metadata.yaml').unlink()
    code, figures, page = evaluate(bag, tmp_path / 'out', '--params', str(params))
    assert code == 0
    assert 1 <= figures['frames'] <= 10
    assert 'metadata.yaml is missing' in page
    assert 'is damaged' in capsys.readouterr().err


def test_two_cameras_with_one_frame_are_said(small_bag, tmp_path, colours, capsys):
    bag, (_, params) = small_bag('two'), colours
    for stamp_ns in STAMPS_NS[:2]:
        bag.image(stamp_ns, np.zeros((48, 64, 3), np.uint8))
        bag.info(stamp_ns)
        bag.info(stamp_ns, topic='/rear/color/camera_info')
    code, _, page = evaluate(bag.close(), tmp_path / 'out', '--params', str(params))
    assert code == 0
    said = capsys.readouterr().err
    assert '/camera/color/camera_info and /rear/color/camera_info' in said
    assert "the same frame_id 'camera_color_optical_frame'" in said
    assert 'the same frame_id' in page


def test_several_cameras_stand_side_by_side(small_bag, tmp_path, colour_segmenter, capsys):
    """The front camera's truth is what the model says; the rear one's is all green, half true."""
    bag, manifest = small_bag('cameras'), colour_segmenter()
    rgb, ids = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
    rgb[:, :32, 0], rgb[:, 32:, 1], ids[:, 32:] = 255, 255, 1
    for prefix in (TRUTH, f'{TRUTH}/rear'):
        bag.labels({0: 'red', 1: 'green'}, f'{prefix}/label_info')
    for stamp_ns in STAMPS_NS[:3]:
        for camera, prefix, mask in (
                ('/camera', TRUTH, ids), ('/rear', f'{TRUTH}/rear', np.ones_like(ids))):
            bag.image(stamp_ns, rgb, f'{camera}/color/image_raw')
            bag.info(stamp_ns, topic=f'{camera}/color/camera_info')
            bag.mask(stamp_ns, mask, f'{prefix}/mask')
    params = tmp_path / 'params.yaml'
    params.write_text(f'segmentation: {{ros__parameters: {{model: colours, '
                      f'manifest: {manifest}}}}}\n')
    flags = ('--params', str(params), '--camera', '/camera', 'rear')
    code, figures, page = evaluate(bag.close(), tmp_path / 'out', *flags)
    assert code == 0
    assert figures['cameras_camera_segmentation_pixel_accuracy'] == pytest.approx(1.0, abs=0.01)
    assert figures['cameras_rear_segmentation_pixel_accuracy'] == pytest.approx(0.5, abs=0.01)
    assert figures['n'] == 6
    assert 'cameras, /rear' in page
    assert '/camera/color/camera_info and /rear/color/camera_info' in capsys.readouterr().err


@pytest.mark.parametrize(('flags', 'said'), [
    (('--camera', '/a', '/b', '--image', '/x'), '--image is for one camera, but --camera names'),
    (('--camera', '/a', '/a/'), '--camera names /a twice'),
    (('--camera', '/a', '/b', '--truth', '/t'), '--truth has 1 prefixes for the 2 cameras'),
    (('--grasp-labels', 'folder'), '--grasp-labels is for the grasp node, but none is run')])
def test_flags_that_do_not_fit_are_said(room, tmp_path, capsys, flags, said):
    assert evaluate(room, tmp_path / 'out', *flags)[0] == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(('flags', 'said'), [
    (('--require', 'AP50'), "'AP50' is no requirement"),
    (('--map', 'desk'), "'desk' is no list of names")])
def test_wrong_words_are_refused(room, tmp_path, capsys, flags, said):
    with pytest.raises(SystemExit) as caught:
        evaluate(room, tmp_path / 'out', *flags)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_frames_are_labelled_by_hand_and_scored(room, tmp_path, capsys):
    """Extract every third frame, label it, shift the labels by 5 ms, and score a vendor's node."""
    out = tmp_path / 'labels'
    assert main(['extract-frames', str(room), str(out), '--every', '3']) == 0
    assert '4 picture(s) and 0 box(es)' in capsys.readouterr().out
    names = sorted(path.name for path in (out / 'images').iterdir())
    assert names == [f'{STAMPS_NS[n]}.png' for n in (0, 3, 6, 9)]
    content = json.loads((out / 'instances.json').read_text())
    ids = {one['name']: one['id'] for one in content['categories']}
    for image in content['images']:
        stamp_ns = int(image['file_name'].removesuffix('.png'))
        image['file_name'] = f'{stamp_ns + 5_000_000}.png'
        for name, box in (('dining table', [10, 10, 30, 30]), ('chair', [50, 30, 12, 16])):
            content['annotations'].append({
                'id': len(content['annotations']) + 1, 'image_id': image['id'],
                'category_id': ids[name], 'bbox': box})
    content['images'].append(
        {'id': 99, 'file_name': '5000000000.png', 'width': 64, 'height': 48})
    (out / 'instances.json').write_text(json.dumps(content))
    code, figures, page = evaluate(
        room, tmp_path / 'out', '--recorded', '/vendor/found',
        '--labels', str(out / 'instances.json'), '--map', 'desk=dining table,seat=chair')
    name = 'recorded_vendor_found'
    assert code == 0
    assert figures[f'{name}_labelled_frames'] == 4
    assert figures[f'{name}_AP50_desk'] == pytest.approx(1.0)
    assert figures[f'{name}_AP50_seat'] == pytest.approx(76 / 101, abs=1e-6)  # 3 of 4
    assert '6 frame(s) have no labels' in page
    assert '1 of 5 labelled pictures' in page
    capsys.readouterr()
    assert evaluate(room, tmp_path / 'other', '--recorded', '/vendor/found',
                    '--labels', str(out / 'instances.json'))[0] == 1
    said = capsys.readouterr().err
    assert 'has boxes of chair, dining table, which the model does not know' in said
    assert "--map 'seat=chair' (it knows desk, seat)" in said
    assert main(['extract-frames', str(room), str(out)]) == 1
    assert 'may hold labels made by hand' in capsys.readouterr().err
    content['images'][1] |= {'width': 128, 'height': 96}  # labelled in pictures twice as large
    (out / 'instances.json').write_text(json.dumps(content))
    assert evaluate(room, tmp_path / 'large', '--labels', str(out / 'instances.json'))[0] == 1
    said = capsys.readouterr().err
    assert 'as 128x96, but the frame of the bag is 64x48; label the pictures in their' in said


def test_a_file_that_holds_no_labels_is_said(room, tmp_path, capsys):
    (tmp_path / 'labels.json').write_text('{"images": []}')
    flags = ('--recorded', '/vendor/found', '--labels')
    assert evaluate(room, tmp_path / 'out', *flags, str(tmp_path / 'labels.json'))[0] == 1
    assert 'labels.json is not a COCO file' in capsys.readouterr().err
    assert evaluate(room, tmp_path / 'out', *flags, str(tmp_path / 'absent.json'))[0] == 1
    assert 'there is no file' in capsys.readouterr().err


def test_a_damaged_sqlite_file_is_evaluated_as_far_as_it_goes(
        small_bag, colour_segmenter, tmp_path, capsys):
    bag, rgb = small_bag('old', 'sqlite3'), np.zeros((48, 64, 3), np.uint8)
    for stamp_ns in STAMPS_NS:
        bag.image(stamp_ns, rgb)
    file = next(bag.close().glob('*.db3'))
    file.write_bytes(file.read_bytes()[:file.stat().st_size * 2 // 3])
    params = tmp_path / 'colours.yaml'
    params.write_text(f'segmentation: {{ros__parameters: {{model: colours, '
                      f'manifest: {colour_segmenter()}}}}}\n')
    code, figures, page = evaluate(bag.path, tmp_path / 'out', '--params', str(params))
    assert code == 0
    assert 1 <= figures['frames'] < 10
    assert 'is damaged' in page
    assert 'whole message(s) can be read' in capsys.readouterr().err


def test_messages_of_unknown_types_and_broken_ones_are_left_out(
        colours, small_bag, tmp_path, capsys):
    """Two pictures of three can be used; a topic that nobody knows is in nobody's way."""
    _, params = colours
    bag = small_bag('strange')
    for n in range(3):
        bag.image(STAMPS_NS[n], np.zeros((48, 64, 3), np.uint8))
    broken = bag.encode.image_to_msg(
        np.zeros((48, 64, 3), np.uint8), 'rgb8', bag.header(STAMPS_NS[3]))
    broken.data = broken.data[:100]
    bag.put('/camera/color/image_raw', broken, STAMPS_NS[3])
    bag.put_unknown('/vendor/status', STAMPS_NS[0])
    code, figures, page = evaluate(bag.close(), tmp_path / 'out', '--params', str(params))
    assert code == 0
    assert (figures['frames'], figures['lost_messages']) == (3, 1)
    assert 'left out: /camera/color/image_raw at 1300000000 ns: image buffer holds 100' in page
    assert evaluate(bag.path, tmp_path / 'other', '--image', '/vendor/status')[0] == 1
    assert 'vendor_msgs/msg/Status' in capsys.readouterr().err


@pytest.mark.slow
def test_evaluations_run_in_processes_of_their_own(room, tmp_path):
    """The figures are those of one process."""
    shutil.copytree(room, tmp_path / 'again')
    flags = ('--recorded', '/vendor/found', '--map', 'desk=table,seat=chair')
    code = main(['evaluate', str(room), str(tmp_path / 'again'), *flags, '--jobs', '2',
                 '--out', str(tmp_path / 'out')])
    figures = json.loads((tmp_path / 'out' / 'evaluation.json').read_text())
    assert code == 0
    assert figures['again_recorded_vendor_found_AP50'] == pytest.approx((1.0 + 81 / 101) / 2)


def test_recorded_masks(small_bag, tmp_path, capsys):
    """Of two topics that share their names one is right by half, one a quarter of the size."""
    bag, half = small_bag('masks'), np.zeros((48, 64), np.uint8)
    half[:, 32:] = 1
    bag.labels({0: 'floor', 1: 'wall'})
    bag.labels({0: 'floor', 1: 'wall'}, '/vendor/label_info')
    for stamp_ns in STAMPS_NS[:3]:
        bag.image(stamp_ns, np.zeros((48, 64, 3), np.uint8))
        bag.mask(stamp_ns, np.zeros((48, 64), np.uint8))
        bag.mask(stamp_ns, half, '/vendor/half')
        bag.mask(stamp_ns, np.zeros((24, 32), np.uint8), '/vendor/small')
    code, figures, _ = evaluate(
        bag.close(), tmp_path / 'out', '--recorded', '/vendor/half', '/vendor/small')
    assert code == 0
    assert figures['recorded_vendor_half_pixel_accuracy'] == pytest.approx(0.5)
    assert figures['recorded_vendor_half_mIoU'] == pytest.approx(0.25)  # the wall scores 0
    assert 'recorded_vendor_small_mIoU' not in figures
    assert 'recorded_vendor_small: 3 mask(s) are of another size' in capsys.readouterr().err

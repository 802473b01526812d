"""The model manifest: what is shipped is sound, what is wrong is explained."""

import hashlib

from perception_nodes.core.manifest import (
    camera_domain,
    check_domain,
    find_model,
    known_models,
    model_folder,
    read_manifest,
)
from perception_nodes.core.share import share_file
import pytest

ENTRY = """
models:
  - name: mine
    task: detection
    backend: onnxruntime
    architecture: ssd
    head: ssd
    domain: real
    file: mine.onnx
    sha256: {sha256}
    licence: MIT
    classes: {{0: cat, 5: dog}}
    input: {{width: 30, height: 20, mean: [1, 2, 3], std: [1, 2, 3]}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Return the user's model folder."""
    folder = tmp_path / 'fetched'
    monkeypatch.setenv('PERCEPTION_NODES_MODELS', str(folder))
    return folder


@pytest.fixture
def manifest(tmp_path):
    """Write a manifest with one model whose weights are five bytes."""
    (tmp_path / 'mine.onnx').write_bytes(b'hello')
    path = tmp_path / 'manifest.yaml'
    path.write_text(ENTRY.format(sha256=hashlib.sha256(b'hello').hexdigest()))
    return path


def test_every_shipped_model_is_what_the_manifest_says():
    """Files are there with the recorded hash and size, or can be fetched over https."""
    entries = read_manifest(share_file('models/manifest.yaml'))
    shipped = [entry for entry in entries.values() if not entry.url]
    assert shipped
    for entry in shipped:
        assert entry.verified_path().stat().st_size == entry.size_bytes <= 10_000_000
    for entry in entries.values():
        assert entry.class_names or entry.task in ('grasping', 'navigation')  # see no pictures
        assert entry.licence and entry.source
        assert entry.url.startswith('https://') or not entry.url


def test_detectors_of_torchvision_are_as_torchvision_publishes_them():
    """Address, beginning of the sha256, classes and quality."""
    models = pytest.importorskip('torchvision.models')
    entries = [e for e in known_models().values()
               if e.task in ('detection', 'instances') and e.backend == 'torchvision']
    assert len(entries) >= 12
    for entry in entries:
        weights = models.get_model_weights(entry.architecture).COCO_V1
        assert entry.url == weights.url
        assert entry.url.endswith(f'-{entry.sha256}.pth')
        names = weights.meta['categories']
        nothing = ('N/A', '__background__', 'no person')
        assert entry.class_names == {
            i: name for i, name in enumerate(names) if name not in nothing}
        theirs = weights.meta['_metrics']['COCO-val2017']
        stated = {q['metric']: q['value'] for q in entry.quality}
        assert stated == pytest.approx({
            {'box_map': 'box_AP', 'mask_map': 'mask_AP', 'kp_map': 'keypoint_AP'}[name]: ap / 100
            for name, ap in theirs.items()})


def test_models_of_instances_do_detection_as_well(manifest):
    """Not the other way round."""
    assert find_model('maskrcnn_resnet50_fpn', 'detection').task == 'instances'
    with pytest.raises(ValueError, match="'mine' does detection; a model for instances is needed"):
        find_model('mine', 'instances', str(manifest))


def test_classifiers_of_torchvision_are_as_torchvision_publishes_them():
    """Their 1000 names stand in a file; the picture is scaled and cut as for the accuracy."""
    models = pytest.importorskip('torchvision.models')
    entries = [e for e in known_models().values() if e.task == 'classification']
    assert len(entries) >= 4
    for entry in entries:
        weights = models.get_model_weights(entry.architecture)[entry.source.split()[-1]]
        assert entry.url == weights.url
        assert entry.url.endswith(f'-{entry.sha256}.pth')
        assert list(entry.class_names.items()) == list(enumerate(weights.meta['categories']))
        theirs = weights.transforms()
        assert theirs.crop_size == [entry.input.width] == [entry.input.height]
        assert round(entry.input.width / entry.input.crop_fraction) == theirs.resize_size[0]
        assert entry.input.mean == pytest.approx([255 * m for m in theirs.mean])
        assert entry.input.std == pytest.approx([255 * s for s in theirs.std])
        metric = weights.meta['_metrics']['ImageNet-1K']['acc@1']
        assert entry.quality[0]['value'] == pytest.approx(metric / 100, abs=6e-4)


def test_class_names_may_stand_in_a_file_beside_the_manifest(manifest):
    """One per line, from 0; an empty line leaves a gap."""
    (manifest.parent / 'names.txt').write_text('cat\n\ndog, wild\n')
    text = manifest.read_text()
    manifest.write_text(text.replace('{0: cat, 5: dog}', 'names.txt'))
    assert read_manifest(manifest)['mine'].class_names == {0: 'cat', 2: 'dog, wild'}
    manifest.write_text(text.replace('{0: cat, 5: dog}', 'imagenet1k.txt'))
    assert read_manifest(manifest)['mine'].class_names[281] == 'tabby'


def test_a_users_manifest_lies_on_top(manifest):
    """Its models are found beside the shipped ones."""
    entry = find_model('mine', 'detection', str(manifest))
    assert entry.path == manifest.parent / 'mine.onnx'
    assert entry.verified_path() == entry.path
    assert entry.class_names == {0: 'cat', 5: 'dog'}
    assert entry.input.mean == (1.0, 2.0, 3.0)
    assert entry.input.layout == 'NCHW'
    assert find_model('coco_ssdlite_mobilenet_v2', 'detection', str(manifest)).head == 'ssd'


def test_changed_weights_are_refused(manifest):
    """Another file under the same name does not pass."""
    (manifest.parent / 'mine.onnx').write_bytes(b'evil')
    with pytest.raises(ValueError, match="weights of model 'mine' are not the ones"):
        find_model('mine', 'detection', str(manifest)).verified_path()


def test_missing_weights_are_named(manifest):
    """The path that is missing is in the sentence."""
    (manifest.parent / 'mine.onnx').unlink()
    with pytest.raises(FileNotFoundError, match='there is no file .*mine.onnx'):
        find_model('mine', 'detection', str(manifest)).verified_path()


def test_unknown_names_are_answered_with_known_ones(manifest):
    """A close name is suggested, a wrong task is said."""
    with pytest.raises(ValueError, match="did you mean 'coco_ssdlite_mobilenet_v2'"):
        find_model('coco_ssdlite', 'detection')
    with pytest.raises(ValueError, match='there are: coco_ssdlite_mobilenet_v2, sim_scene_d'):
        find_model('zzz', 'detection')
    with pytest.raises(ValueError, match='does detection; a model for segmentation is needed'):
        find_model('mine', 'segmentation', str(manifest))
    with pytest.raises(FileNotFoundError, match='no model manifest'):
        find_model('mine', 'detection', str(manifest.parent / 'absent.yaml'))


@pytest.mark.parametrize(('old', 'new', 'sentence'), [
    ('task: detection', 'task: detecting', "model 'mine' is wrong: task is 'detecting'"),
    ('domain: real', 'domain: sim', "domain is 'sim'; choose one of real, simulation"),
    ('    file: mine.onnx\n', '', 'it needs a file, or a url'),
    ('file: mine.onnx', 'url: file:///etc/passwd', 'it must begin with https://'),
    ('file: mine.onnx', 'url: https://example.org/', 'a url that ends with the name of one'),
    ('classes: {0: cat, 5: dog}', 'classes: {}', 'classes must be {id: name}'),
    ('classes: {0: cat, 5: dog}', 'classes: [cat]', "model 'mine' is wrong"),
    ('classes: {0: cat, 5: dog}', 'classes: absent.txt', 'absent.txt'),
    ('width: 30', 'width: 30, crop_fraction: 0.0', 'input crop_fraction is 0.0; it must be'),
    ('classes: {0: cat, 5: dog}', 'classes: {-1: cat}', 'none below 0'),
    ('std: [1, 2, 3]', 'std: [1, 0, 3]', 'no std may be 0'),
    ('    licence: MIT\n', '', "model 'mine' has no field 'licence'"),
    ('width: 30', 'width: 0', 'input size is 0x20; both must be positive'),
    ('width: 30', 'width: 30, resize: crop', "input resize is 'crop'; choose one of stretch"),
    ('models:', 'model:', "it needs a list 'models:'"),
    ('models:', 'models: [', 'is not YAML'),
])
def test_a_wrong_manifest_is_explained(manifest, old, new, sentence):
    """The sentence names the file, the model and the field."""
    manifest.write_text(manifest.read_text().replace(old, new))
    with pytest.raises(ValueError, match='manifest.yaml') as caught:
        read_manifest(manifest)
    assert sentence in str(caught.value)


FETCHED = ENTRY.replace('    file: mine.onnx', '    url: https://example.org/a/mine.onnx')


def test_weights_are_looked_for_beside_the_manifest_and_then_where_they_are_fetched_to(
        manifest, folder):
    """What stands beside it wins; what is missing is named with the command that gets it."""
    sha256 = hashlib.sha256(b'hello').hexdigest()
    manifest.write_text(FETCHED.format(sha256=sha256))
    assert read_manifest(manifest)['mine'].path == manifest.parent / 'mine.onnx'
    (manifest.parent / 'mine.onnx').unlink()
    missing = read_manifest(manifest)['mine']
    assert missing.path == folder / 'mine.onnx'
    with pytest.raises(FileNotFoundError) as caught:
        missing.verified_path()
    assert f'get them with: perception fetch-model mine --manifest {manifest}' in str(caught.value)
    folder.mkdir()
    (folder / 'mine.onnx').write_bytes(b'hello')
    assert read_manifest(manifest)['mine'].verified_path().read_bytes() == b'hello'
    manifest.write_text(ENTRY.format(sha256=sha256))  # also without a url
    assert read_manifest(manifest)['mine'].path == folder / 'mine.onnx'


def test_the_model_folder_is_the_users_choice(monkeypatch):
    """Without one it lies in the cache."""
    monkeypatch.setenv('PERCEPTION_NODES_MODELS', '~/weights')
    monkeypatch.setenv('HOME', '/home/robot')
    assert str(model_folder()) == '/home/robot/weights'
    monkeypatch.delenv('PERCEPTION_NODES_MODELS')
    assert str(model_folder()) == '/home/robot/.cache/perception_nodes/models'


def test_the_beginning_of_a_sha256_is_enough_over_https(manifest):
    """Torchvision publishes no more; over http anybody on the way could match it."""
    digits = hashlib.sha256(b'hello').hexdigest()
    manifest.write_text(FETCHED.format(sha256=digits[:8]))
    assert read_manifest(manifest)['mine'].verified_path()
    for text, sentence in (
            (FETCHED.format(sha256=digits[:7]), 'it must be 64 hex digits'),
            (FETCHED.format(sha256='x' * 64), 'it must be 64 hex digits'),
            (FETCHED.format(sha256=digits[:8]).replace('https', 'http'), 'must have all 64'),
            (ENTRY.format(sha256=digits[:8]), 'must have all 64')):
        manifest.write_text(text)
        with pytest.raises(ValueError, match=sentence):
            read_manifest(manifest)


def test_where_a_model_comes_from_is_kept(manifest):
    """Quality, training and conversion are read as they stand."""
    manifest.write_text(manifest.read_text() + """
    size_bytes: 5
    source: a friend
    quality: [{dataset: voc, metric: mAP50, value: 0.5, command: make eval}]
    training: {command: make train, seed: 1}
    converted_by: python convert.py
""")
    entry = read_manifest(manifest)['mine']
    assert (entry.size_bytes, entry.source) == (5, 'a friend')
    assert entry.quality[0]['metric'] == 'mAP50'
    assert entry.training['seed'] == 1
    assert entry.converted_by == 'python convert.py'


def test_another_input_size_changes_nothing_else(manifest):
    """Empty leaves the model's own."""
    entry = read_manifest(manifest)['mine']
    assert entry.with_input_size(()) is entry
    resized = entry.with_input_size((64, 32))
    assert (resized.input.width, resized.input.height, resized.input.mean) == (
        64, 32, entry.input.mean)


@pytest.mark.parametrize(('declared', 'use_sim_time', 'domain'), [
    ('auto', False, 'real'), ('auto', True, 'simulation'),
    ('real', True, 'real'), ('simulation', False, 'simulation')])
def test_a_simulated_camera_is_told_by_its_clock_unless_declared(declared, use_sim_time, domain):
    """A replayed recording of a real camera has to be declared."""
    assert camera_domain(declared, use_sim_time) == domain


def test_weights_from_simulation_are_refused_on_a_real_camera(manifest):
    """The sentence names what to use or fetch instead, and how to insist."""
    manifest.write_text(manifest.read_text().replace('domain: real', 'domain: simulation'))
    entry = read_manifest(manifest)['mine']
    check_domain(entry, 'simulation')
    check_domain(entry, 'real', allow_mismatch=True)
    with pytest.raises(ValueError) as caught:
        check_domain(entry, 'real', manifest=str(manifest))
    for part in ("model 'mine' was trained in simulation only",
                 "use 'coco_ssdlite_mobilenet_v2'",
                 'fetch one with: perception fetch-model ssdlite320_mobilenet_v3_large',
                 'allow_domain_mismatch', 'camera_domain'):
        assert part in str(caught.value)


def test_weights_from_photos_are_accepted_everywhere():
    """They know more than a simulator shows."""
    for camera in ('real', 'simulation'):
        check_domain(find_model('coco_ssdlite_mobilenet_v2'), camera)


def test_a_model_of_ones_own_needs_its_manifest(tmp_path):
    with pytest.raises(ValueError, match=(
            "no model 'signs' in the shipped manifest, and no 'manifest' is named; there are")):
        find_model('signs')
    mine = tmp_path / 'manifest.yaml'
    mine.write_text('models: []')
    with pytest.raises(ValueError, match="no model 'signs' in the manifest; there are"):
        find_model('signs', manifest=str(mine))

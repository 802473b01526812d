"""The model manifest: what is shipped is sound, what is wrong is explained."""

import hashlib

from perception_nodes.core.manifest import find_model, read_manifest
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
    input: {{width: 30, height: 20, mean: [1, 2, 3]}}
"""


@pytest.fixture
def manifest(tmp_path):
    """Write a manifest with one model whose weights are five bytes."""
    (tmp_path / 'mine.onnx').write_bytes(b'hello')
    path = tmp_path / 'manifest.yaml'
    path.write_text(ENTRY.format(sha256=hashlib.sha256(b'hello').hexdigest()))
    return path


def test_every_shipped_model_is_what_the_manifest_says():
    """All files are there with the recorded hash and size."""
    entries = read_manifest(share_file('models/manifest.yaml'))
    assert entries
    for entry in entries.values():
        assert entry.verified_path().stat().st_size <= 10_000_000
        assert entry.class_names


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
    with pytest.raises(ValueError, match='there are: coco_ssdlite_mobilenet_v2'):
        find_model('zzz', 'detection')
    with pytest.raises(ValueError, match='does detection; a segmentation model is needed'):
        find_model('mine', 'segmentation', str(manifest))
    with pytest.raises(FileNotFoundError, match='no model manifest'):
        find_model('mine', 'detection', str(manifest.parent / 'absent.yaml'))


@pytest.mark.parametrize(('old', 'new', 'sentence'), [
    ('task: detection', 'task: detecting', "model 'mine' is wrong: task is 'detecting'"),
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

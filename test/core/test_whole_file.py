"""Files that are there whole or not at all."""

from perception_nodes.core.whole_file import draft_of, whole_file
import pytest


def test_the_draft_takes_the_place_at_the_end(tmp_path):
    file = tmp_path / 'model.onnx'
    file.write_text('old')
    with whole_file(file) as draft:
        draft.write_text('new')
        assert file.read_text() == 'old'
    assert file.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [file]


def test_a_failure_leaves_what_was_there(tmp_path):
    file = tmp_path / 'model.onnx'
    file.write_text('old')
    with pytest.raises(ValueError, match='half'), whole_file(file) as draft:
        draft.write_text('ne')
        raise ValueError('half')
    assert file.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_program_left_is_replaced(tmp_path):
    file = tmp_path / 'model.onnx'
    draft_of(file).write_text('what a killed program left')
    with whole_file(file) as draft, draft.open('w') as stream:
        stream.write('new')
    assert file.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [file]

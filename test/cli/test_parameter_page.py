"""The page about parameters is made from their declarations, and the shipped files obey them."""

from pathlib import Path

from perception_nodes.cli.main import main
from perception_nodes.core.share import share_file, share_folder
import pytest
import yaml

pytest.importorskip('rclpy', reason='rclpy is not installed')
from perception_nodes.cli.parameter_page import page, parameter_sets, yaml_file  # noqa: E402


def test_the_page_in_the_docs_is_the_present_one():
    path = Path(share_folder()) / 'docs' / 'parameters.md'
    if not path.exists():
        pytest.skip('the docs are not installed, only in a checkout')
    assert path.read_text() == page(dict(parameter_sets())), \
        'docs/parameters.md is stale: write it again with "make docs"'


def test_the_shipped_parameter_file_holds_known_names_and_allowed_values():
    check(yaml.safe_load(share_file('config/perception.yaml').read_text()))


def test_the_printed_yaml_is_valid_and_complete():
    sets = dict(parameter_sets())
    blocks = yaml.safe_load(yaml_file(sets))
    assert set(blocks) == set(sets)
    assert blocks['detection']['ros__parameters']['score_threshold'] == 0.5
    check(blocks)


def check(blocks):
    """Build every parameter set from a parsed ROS parameter file."""
    sets = dict(parameter_sets())
    for node, block in blocks.items():
        values = dict(block['ros__parameters'])
        for kind in sets[node]:
            own = {name: values.pop(name) for name in kind.__dataclass_fields__ if name in values}
            kind.from_mapping(own)
        assert not values, f'{node} has no parameters {sorted(values)}'


def test_one_node_or_a_sentence(capsys):
    assert main(['parameters', 'detection']) == 0
    shown = capsys.readouterr().out
    assert '| `nms_iou` | float | `0.6` | ≥ 0.0, ≤ 1.0 | yes |' in shown
    assert '## perception_container' not in shown
    assert main(['parameters', 'detektion']) == 1
    assert "there is no node 'detektion'; choose one of" in capsys.readouterr().err

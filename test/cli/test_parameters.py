"""Flags and node arguments say what the parameters say."""

from argparse import ArgumentParser
from dataclasses import dataclass

from perception_nodes.cli.parameters import add_flags, from_flags, ros_arguments
from perception_nodes.core.params import param, Params
import pytest
import yaml


@dataclass(frozen=True, kw_only=True)
class LampParams(Params):
    name: str = param('123', 'What it is called.')
    height_m: float = param(2.0, 'Where it hangs, within 5 %.', unit='m', ge=0.0)
    is_on: bool = param(True, 'Whether it shines.')
    colours: tuple[str, ...] = param(('red',), 'What it can show.')


def parsed(*words, **options):
    parser = ArgumentParser()
    add_flags(parser, LampParams, **options)
    return from_flags(LampParams, parser.parse_args(words))


def test_without_flags_the_defaults_hold():
    assert parsed() == LampParams()
    assert parsed(defaults={'height_m': 3.0}) == LampParams(height_m=3.0)


def test_flags_set_values():
    assert parsed('--name', 'x', '--height-m', '1', '--no-is-on', '--colours', 'a', 'b') == \
        LampParams(name='x', height_m=1.0, is_on=False, colours=('a', 'b'))


def test_a_value_that_is_not_allowed_is_explained():
    with pytest.raises(ValueError, match="parameter 'height_m' is -1.0; it must be at least 0.0"):
        parsed('--height-m', '-1')


def test_help_shows_sentence_unit_and_default(capsys):
    with pytest.raises(SystemExit):
        parsed('--help')
    shown = ' '.join(capsys.readouterr().out.split())
    assert 'Where it hangs, within 5 % [m] (default 2.0)' in shown


def test_node_arguments_read_back_as_yaml():
    first, *words = ros_arguments(LampParams(name='7', is_on=False, colours=('a', 'b')))
    assert first == '--ros-args'
    assert set(words[::2]) == {'-p'}
    pairs = dict(word.split(':=') for word in words[1::2])
    assert {name: yaml.safe_load(value) for name, value in pairs.items()} == {
        'name': '7', 'is_on': False, 'colours': ['a', 'b']}


def test_defaults_are_left_to_the_node():
    assert ros_arguments(LampParams()) == ['--ros-args']

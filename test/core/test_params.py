"""Parameters are checked when a set is built, and the message says what to do."""

from dataclasses import dataclass
import math

from perception_nodes.core.params import param, Params
import pytest


@dataclass(frozen=True, kw_only=True)
class Example(Params):
    """One parameter of each kind."""

    threshold: float = param(0.5, 'A score.', ge=0.0, le=1.0, dynamic=True)
    count: int = param(3, 'How many.', ge=1)
    mode: str = param('fast', 'How.', choices=('fast', 'exact'))
    enabled: bool = param(True, 'Whether.')
    names: tuple[str, ...] = param(('a', 'b'), 'Which.')
    range_m: float = param(4.0, 'How far.', unit='m', ge=0.1)


def test_defaults_are_valid():
    """Every default passes its own check."""
    assert Example() == Example(threshold=0.5, count=3)


def test_lossless_conversions_are_taken():
    """YAML's 1 serves as 1.0, and a list as a tuple."""
    built = Example.from_mapping({'threshold': 1, 'names': ['x']})
    assert built.threshold == 1.0
    assert isinstance(built.threshold, float)
    assert built.names == ('x',)


@pytest.mark.parametrize(('values', 'sentence'), [
    ({'threshold': 1.5}, "parameter 'threshold' is 1.5; it must be at most 1.0"),
    ({'range_m': 0.0}, "parameter 'range_m' is 0.0; it must be at least 0.1 m"),
    ({'count': 0}, "parameter 'count' is 0; it must be at least 1"),
    ({'count': 2.0}, "parameter 'count' is 2.0, of type float; it must be of type int"),
    ({'count': True}, "parameter 'count' is True, of type bool; it must be of type int"),
    ({'mode': 'slow'}, "parameter 'mode' is 'slow'; choose one of fast, exact"),
    ({'names': 'x'}, "parameter 'names' is 'x'; it must be a list"),
    ({'names': [1]}, "parameter 'names' is 1, of type int; it must be of type str"),
    ({'threshold': math.nan}, "parameter 'threshold' is NaN; it must be a number"),
    ({'treshold': 0.5}, "there is no parameter 'treshold'; did you mean 'threshold'?"),
])
def test_wrong_values_are_explained(values, sentence):
    """The sentence names the parameter, its value and what is allowed."""
    with pytest.raises(ValueError) as caught:
        Example.from_mapping(values)
    assert str(caught.value) == sentence


def test_unknown_name_lists_what_there_is():
    """Without a close match the known names are listed."""
    with pytest.raises(ValueError, match='there are count, enabled, mode, names, range_m'):
        Example.from_mapping({'zzz': 1})

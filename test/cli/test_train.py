"""What the trainings share as seen from the command line."""

import sys
from types import ModuleType

from perception_nodes.cli import train
from perception_nodes.cli.main import main
import pytest


@pytest.mark.parametrize(('training', 'sentence'), [
    ('detection', 'interrupted; the same command goes on after what is finished'),
    ('yolo', 'interrupted')])
def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys, training, sentence):
    def interrupted(arguments):
        raise KeyboardInterrupt

    module = ModuleType('interrupted_training')
    module.add_arguments, module.run = (lambda parser: None), interrupted
    monkeypatch.setitem(train.TRAININGS, training, ('interrupted_training', 'a network'))
    monkeypatch.setitem(sys.modules, 'interrupted_training', module)
    assert main(['train', training]) == 0
    assert capsys.readouterr().err == f'perception train: {sentence}\n'

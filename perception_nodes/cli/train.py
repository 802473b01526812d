"""
Train a network.

A training is a module like a verb's, imported when it is asked for: it offers
``add_arguments(parser)`` and ``run(arguments) -> int``.
"""

from argparse import ArgumentParser, Namespace
import logging

from perception_nodes.cli.choices import add_choices, run_choice

log = logging.getLogger(__name__)

# name: (module, what it trains)
TRAININGS = {
    'classification': ('perception_nodes.cli.train_classification',
                       'a classifier, on digits or on a folder of pictures per class'),
    'detection': ('perception_nodes.cli.train_detection', 'a detector, on labelled pictures'),
    'enhancement': ('perception_nodes.cli.train_enhancement',
                    'an auto-encoder that takes blur and noise out of pictures'),
    'grasp': ('perception_nodes.cli.train_grasp',
              'a network that judges or finds grasps, on grasps that physics tried'),
    'segmentation': ('perception_nodes.cli.train_segmentation',
                     'SegNet, FCN or a small segmenter, on pictures with masks'),
    'scene': ('perception_nodes.cli.train_scene',
              "the simulator's detector and segmenter, together"),
    'navigation': ('perception_nodes.cli.train_navigation',
                   'a policy that drives to goals by ranges, by reinforcement'),
    'yolo': ('perception_nodes.cli.train_yolo', "a YOLO, with ultralytics' trainer (AGPL-3.0)"),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the verb takes."""
    add_choices(parser, 'training', TRAININGS)


def run(arguments: Namespace) -> int:
    """Run the training with the arguments it declares itself."""
    try:
        return run_choice('train', TRAININGS, arguments)
    except KeyboardInterrupt:
        log.info('interrupted%s', '' if arguments.choice == 'yolo' else
                 '; the same command goes on after what is finished')
        return 0

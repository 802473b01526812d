"""
Run one of the measurements behind the project's figures.

A benchmark is a module like a verb's, imported when it is asked for: it offers
``add_arguments(parser)`` and ``run(arguments) -> int``, and writes a result file.
"""

from argparse import ArgumentParser, Namespace

from perception_nodes.cli.choices import add_choices, run_choice

# name: (module, what it measures)
BENCHMARKS = {
    'backends': (
        'perception_nodes.cli.benchmark_backends',
        'CPU time of the shipped networks in every runtime that is installed'),
    'enhancement': (
        'perception_nodes.cli.benchmark_enhancement',
        'whether pictures that are made better are detected better'),
    'graph': (
        'perception_nodes.cli.benchmark_graph',
        'CPU time and latency of images between processes and through the nodes'),
    'grasp': (
        'perception_nodes.cli.benchmark_grasp',
        'how much clutter grasping clears in the simulator, judged by physics'),
    'map': (
        'perception_nodes.cli.benchmark_map',
        'what obstacle maps find, invent, keep too long and cost, beside the rules of others'),
    'navigation': (
        'perception_nodes.cli.benchmark_navigation',
        "how often robots reach goals in BARN's worlds and among people, and what they hit"),
    'navigation-seeds': (
        'perception_nodes.cli.benchmark_navigation_seeds',
        'the policies that trainings from several seeds have left, together'),
    'places': (
        'perception_nodes.cli.benchmark_places',
        'how well simulated places are recognised in other light'),
    'regions': (
        'perception_nodes.cli.benchmark_regions',
        'sliding windows, region proposals and detectors on the same photos'),
    'simulation': (
        'perception_nodes.cli.benchmark_simulation',
        'CPU time of simulated physics and pictures, with and without OpenGL'),
    'tracking': (
        'perception_nodes.cli.benchmark_tracking',
        'CPU time of following one object'),
    'vision': (
        'perception_nodes.cli.benchmark_vision',
        'how well boxes and masks fit simulated scenes that no training has seen'),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the verb takes."""
    add_choices(parser, 'benchmark', BENCHMARKS)


def run(arguments: Namespace) -> int:
    """Run the benchmark with the arguments it declares itself."""
    return run_choice('benchmark', BENCHMARKS, arguments)

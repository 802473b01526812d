"""
Run one of the measurements behind the project's figures.

A benchmark is a module like a verb's, imported when it is asked for: it offers
``add_arguments(parser)`` and ``run(arguments) -> int``, and writes a result file.
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter, REMAINDER
import importlib

# name: (module, what it measures)
BENCHMARKS = {
    'graph': (
        'perception_nodes.cli.benchmark_graph',
        'CPU time and latency of images between processes and through the nodes'),
    'map': (
        'perception_nodes.cli.benchmark_map',
        'what obstacle maps find, invent, keep too long and cost, beside the rules of others'),
    'simulation': (
        'perception_nodes.cli.benchmark_simulation',
        'CPU time of simulated physics and pictures, with and without OpenGL'),
    'vision': (
        'perception_nodes.cli.benchmark_vision',
        'how well boxes and masks fit simulated scenes that no training has seen'),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the verb takes."""
    width = max(map(len, BENCHMARKS))
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = 'benchmarks:\n' + '\n'.join(
        f'  {name:{width}}  {purpose}' for name, (_, purpose) in BENCHMARKS.items())
    parser.add_argument('benchmark', choices=BENCHMARKS, help='which one')
    parser.add_argument('words', nargs=REMAINDER, metavar='...', help='its own arguments')


def run(arguments: Namespace) -> int:
    """Run the benchmark with the arguments it declares itself."""
    name, purpose = BENCHMARKS[arguments.benchmark]
    module = importlib.import_module(name)
    parser = ArgumentParser(
        f'perception benchmark {arguments.benchmark}', description=f'Measure {purpose}.')
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(arguments.words)))

"""The kinds of world, each drawn from a seed alone."""

from collections.abc import Callable
import difflib

from perception_nodes.sim.scene import Scene, Split, SPLITS
from perception_nodes.sim.worlds.corridor import make_corridor
from perception_nodes.sim.worlds.room import make_room
from perception_nodes.sim.worlds.tabletop import make_packed, make_pile
from perception_nodes.sim.worlds.water import make_water

WORLDS: dict[str, Callable[[int, Split], Scene]] = {
    'room': make_room,
    'tabletop_packed': make_packed,
    'tabletop_pile': make_pile,
    'corridor': make_corridor,
    'water': make_water,
}


def make_scene(world: str, seed: int, split: Split = 'train') -> Scene:
    """
    Draw a scene.

    :param world: A key of WORLDS.
    :param seed: The same one gives the same scene.
    :param split: 'train' and 'val' share families and textures, 'test' adds held-out ones.
    :raises ValueError: If there is no such world or split.
    """
    if world not in WORLDS:
        close = difflib.get_close_matches(world, WORLDS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f'there are {", ".join(WORLDS)}'
        raise ValueError(f"there is no world '{world}'; {hint}")
    if split not in SPLITS:
        raise ValueError(f"split is '{split}'; choose one of {', '.join(SPLITS)}")
    if seed < 0:
        raise ValueError(f'seed is {seed}; it must not be negative')
    return WORLDS[world](seed, split)

"""Light that is never quite white."""

import numpy as np
from perception_nodes.sim.scene import Rgb


def tinted(rng: np.random.Generator, level: float) -> Rgb:
    """Return a light of a level in [0, 1], a little off white."""
    r, g, b = (level * (1.0 + rng.uniform(-0.12, 0.12, 3))).tolist()
    return r, g, b

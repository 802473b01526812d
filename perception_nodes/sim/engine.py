"""MuJoCo, or a sentence that says how to get it."""

try:
    import mujoco
except ImportError as error:
    raise ImportError(
        f'the simulator needs MuJoCo, which cannot be imported here ({error}): '
        "pip install 'perception_nodes[sim]', or pip install mujoco") from error

__all__ = ['mujoco']

"""A grasp planner with or without a network, by the name of a model."""

from perception_nodes.backends.registry import load_model
from perception_nodes.core.grasping import block_on_table, GraspParams, GraspPlanner
from perception_nodes.core.manifest import find_model


def make_planner(
    params: GraspParams, model: str = '', manifest: str = '', device: str = 'auto'
) -> GraspPlanner:
    """
    Return a planner whose candidates a network judges, or finds, or the geometry alone.

    With a network it plans once, so that no frame waits for what is compiled on first use.

    :param model: Name of a grasping model; empty for the geometry alone.
    :param manifest: Path of the user's manifest.yaml, or empty.
    :raises FileNotFoundError: If the manifest or the weights are missing.
    :raises ValueError: If there is no such model, or its file is not what the manifest says.
    """
    if not model:
        return GraspPlanner(params)
    network = load_model(find_model(model, 'grasping', manifest), device)
    planner = (GraspPlanner(params, finder=network) if hasattr(network, 'find')
               else GraspPlanner(params, scorer=network))
    planner.propose(block_on_table(params))
    return planner

"""A grasp planner with or without a network, by the name of a model."""

from perception_nodes.backends.registry import load_model
from perception_nodes.core.grasping import block_on_table, GraspParams, GraspPlanner
from perception_nodes.core.manifest import find_model


def make_planner(
    params: GraspParams, model: str = '', manifest: str = '', device: str = 'auto',
    fallback_model: str = '',
) -> GraspPlanner:
    """
    Return a planner whose candidates a network judges, or finds, or the geometry alone.

    With a network it plans once, so that no frame waits for what is compiled on first use.

    :param model: Name of a grasping model; empty for the geometry alone.
    :param manifest: Path of the user's manifest.yaml, or empty.
    :param fallback_model: Name of a model that finds grasps where there are none; empty for none.
    :raises FileNotFoundError: If the manifest or the weights are missing.
    :raises ValueError: If there is no such model, it does something else, or its file is not what
        the manifest says.
    """
    planner = GraspPlanner(params)
    if model:
        network = load_model(find_model(model, 'grasping', manifest), device)
        if hasattr(network, 'find'):
            planner.finder = network
        else:
            planner.scorer = network
    if fallback_model:
        planner.fallback = load_model(find_model(fallback_model, 'grasping', manifest), device)
        if not hasattr(planner.fallback, 'find'):
            raise ValueError(
                f"model '{fallback_model}' judges grasps, it finds none; name one that finds them "
                "as fallback_model, such as 'grasp_cascade', or leave that empty")
    if model or fallback_model:
        planner.propose(block_on_table(params))
    return planner

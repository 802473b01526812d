"""What the class of an obstacle means for a robot: how sure, how costly, how long, how wide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from perception_nodes.core.params import unknown_name

CLASSES = 256
NO_CLASS = 255
OCCUPIED_COST = 100


@dataclass(frozen=True)
class ClassRule:
    """
    How the map treats one class.

    :raises ValueError: If a number is out of range.
    """

    weight: float = 1.0  # of one look; 0 never marks
    cost: float = OCCUPIED_COST  # of an occupied cell, 0 to 100
    memory_s: float = 0.0  # 0: that of the map
    margin_m: float = 0.0  # about the obstacle, at the same cost

    def __post_init__(self) -> None:
        limits = {'weight': (0.0, 10.0), 'cost': (0.0, 100.0), 'memory_s': (0.0, 3600.0),
                  'margin_m': (0.0, 2.0)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f'{name} is {getattr(self, name)}; it must be from {low:g} to {high:g}')


@dataclass(frozen=True, eq=False)
class ClassTable:
    """The rules of all classes, as the loops read them."""

    weights: npt.NDArray[np.float32]  # (256,)
    costs: npt.NDArray[np.int8]  # (256,)
    memories_s: npt.NDArray[np.float32]  # (256,), 0: that of the map
    margins_m: dict[int, float]  # of the classes that have one


def parse_rules(texts: Sequence[str]) -> dict[str, ClassRule]:
    """
    Read rules such as ``person memory_s=2 margin_m=0.3``, by the name or number of the class.

    :raises ValueError: With the rule and what is allowed.
    """
    known = [f.name for f in fields(ClassRule)]
    rules = {}
    for text in texts:
        name, *settings = text.replace(',', ' ').split() or ['']
        values = {}
        for setting in settings:
            key, _, number = setting.partition('=')
            if key not in known:
                raise ValueError(f"rule '{text}': {unknown_name(key, known, 'setting')}")
            try:
                values[key] = float(number)
            except ValueError:
                raise ValueError(f"rule '{text}': '{number}' of {key} is no number") from None
        try:
            rules[name.replace('_', ' ')] = ClassRule(**values)
        except ValueError as error:
            raise ValueError(f"rule '{text}': {error}") from None
    return rules


def class_table(rules: Mapping[str, ClassRule], class_names: Mapping[int, str]) -> ClassTable:
    """
    Return the rules by class id.

    :param class_names: Class id to name; a rule for a decimal number needs no name.
    :raises ValueError: If a rule is for a class that does not exist.
    """
    table = ClassTable(
        np.ones(CLASSES, np.float32), np.full(CLASSES, OCCUPIED_COST, np.int8),
        np.zeros(CLASSES, np.float32), {})
    for name, rule in rules.items():
        class_id = _class_id(name, class_names)
        table.weights[class_id] = rule.weight
        table.costs[class_id] = round(rule.cost)
        table.memories_s[class_id] = rule.memory_s
        if rule.margin_m > 0.0:
            table.margins_m[class_id] = rule.margin_m
    return table


def class_ids(names: Sequence[str], class_names: Mapping[int, str]) -> frozenset[int]:
    """
    Return the ids of classes; without ``class_names``, of those that are given as numbers.

    :raises ValueError: If there is no such class.
    """
    return frozenset(
        _class_id(name.replace('_', ' '), class_names) for name in names
        if class_names or name.isdecimal())


def _class_id(name: str, class_names: Mapping[int, str]) -> int:
    ids = {name.replace('_', ' '): i for i, name in class_names.items()}
    class_id = int(name) if name.isdecimal() else ids.get(name)
    if class_id is None or class_id >= NO_CLASS:
        raise ValueError(unknown_name(name, list(ids), 'class'))
    return class_id

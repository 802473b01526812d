"""Learned navigation policies in ONNX files, through onnxruntime."""

from dataclasses import asdict, dataclass
import json
import math

import numpy as np
import numpy.typing as npt
import onnxruntime
from perception_nodes.backends.onnxruntime_backend import open_session
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.navigation import (
    NavigationObservation,
    NavigationParams,
    STATE_SIZE,
)
from perception_nodes.core.navigation_rules import commands_of, policy_input
from perception_nodes.core.types import VelocityCommand

METADATA = 'navigation'  # key of what a file says about itself
INPUTS, OUTPUTS = ('inputs', 'state'), ('action', 'next_state')


@dataclass(frozen=True)
class PolicyFacts:
    """What a policy was trained for; its file carries it as JSON."""

    sectors: int
    reach_m: float
    period_ms: float  # from one decision to the next
    innate: bool  # whether it corrects the innate rule
    memory: int  # numbers that it remembers

    def __post_init__(self) -> None:
        numbers = (self.sectors, self.reach_m, self.period_ms, self.memory)
        if not all(math.isfinite(n) and n > 0 for n in numbers):
            raise ValueError(
                f'sectors, reach_m, period_ms and memory are {numbers}; all must be positive')

    def json(self) -> str:
        """Return the facts as the file carries them."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> 'PolicyFacts':
        """
        Read what a file carries.

        :raises ValueError: If it is something else.
        """
        try:
            raw = json.loads(text)
            return cls(int(raw['sectors']), float(raw['reach_m']), float(raw['period_ms']),
                       bool(raw['innate']), int(raw['memory']))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'its metadata is {text!r} ({error})') from error


@dataclass(frozen=True, eq=False)
class PolicyMemory:
    """What a policy remembers from one decision to the next."""

    state: npt.NDArray[np.float32]  # (1, H)
    last_action: npt.NDArray[np.float32]  # (1, 2)


class OnnxNavigationPolicy:
    """
    A recurrent map-less policy; see ``NavigationPolicy``.

    The network runs once on construction, so that one which is no policy is refused then.

    :raises ValueError: If the file is none.
    """

    def __init__(self, session: onnxruntime.InferenceSession, name: str) -> None:
        self._session = session
        try:
            self.facts = PolicyFacts.of_json(
                session.get_modelmeta().custom_metadata_map.get(METADATA, ''))
            self._nothing = PolicyMemory(
                np.zeros((1, self.facts.memory), np.float32), np.zeros((1, 2), np.float32))
            vector = np.zeros((1, self.facts.sectors + STATE_SIZE), np.float32)
            vector[0, -5:] = 1.0
            self._decide(vector, self._nothing)
        except Exception as error:  # onnxruntime has no common base for its errors
            first_line = str(error).partition('\n')[0]
            raise ValueError(
                f"model '{name}' is no navigation policy ({first_line}); take a file that "
                '`perception train navigation` has written') from error

    @property
    def period_ms(self) -> float:
        """Return the time between two decisions that the policy was trained with."""
        return self.facts.period_ms

    def check(self, params: NavigationParams) -> None:
        """
        Compare what a robot is going to show the policy with what it was trained on.

        :raises ValueError: If they differ.
        """
        facts = self.facts
        shown = (params.sectors, params.reach_m, params.stacked_scans, params.decision_ms)
        wanted = (facts.sectors, facts.reach_m, 1, facts.period_ms)
        if shown != wanted:
            raise ValueError(
                f'sectors, reach_m, stacked_scans and decision_ms are {shown}, but the policy '
                f'was trained with {wanted}; set them to that')

    def act(
        self, observation: NavigationObservation, state: PolicyMemory | None
    ) -> tuple[VelocityCommand, PolicyMemory]:
        """Choose the next command; see ``NavigationPolicy``."""
        memory = self._decide(observation.vector()[None], state or self._nothing)
        v, w = commands_of(memory.last_action.astype(np.float64), observation.limits)[0].tolist()
        return VelocityCommand(v, w), memory

    def _decide(self, vectors: npt.NDArray[np.float32], memory: PolicyMemory) -> PolicyMemory:
        inputs = policy_input(
            vectors, memory.last_action, self.facts.reach_m, self.facts.innate)
        action, state = self._session.run(
            OUTPUTS, dict(zip(INPUTS, (inputs, memory.state), strict=True)))
        return PolicyMemory(np.asarray(state), np.asarray(action))


def load_policy(entry: ModelEntry, device: str, half_precision: bool) -> OnnxNavigationPolicy:
    """Load a policy; see :func:`perception_nodes.backends.registry.load_model`."""
    return OnnxNavigationPolicy(open_session(entry, device, half_precision), entry.name)

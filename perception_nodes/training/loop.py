"""
One loop for every network: epochs, averaging, validation, the best checkpoint, resuming.

An epoch draws everything random from the seed and its own number. A run that is killed and
started again therefore ends with the weights of one that was left alone (on a CPU; a GPU may
round differently).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
import json
import logging
import math
from pathlib import Path
import time
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.torch_runtime import choose_device
from perception_nodes.core.params import param, Params
from perception_nodes.core.whole_file import whole_file
from perception_nodes.training.curves import Curves
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

log = logging.getLogger(__name__)

_STEP_EPOCHS, _STEP_FACTOR = (0.6, 0.85), 0.1  # where the step schedule falls, and to what share
_LONGEST_GRADIENT = 10.0
_CHECKPOINT, BEST = 'checkpoint.pt', 'best.pt'


@dataclass(frozen=True, kw_only=True)
class LoopParams(Params):
    """How any network of this project is trained."""

    epochs: int = param(30, 'How often the training set is gone through.', ge=1)
    batch_size: int = param(32, 'Examples per step.', ge=1)
    optimizer: str = param('adamw', 'Rule of the steps.', choices=('adamw', 'adam', 'sgd'))
    learning_rate: float = param(2e-3, 'Largest step size, of the layers that are new.', ge=0.0)
    backbone_rate: float = param(
        0.25, 'Step size of pretrained layers, as a share of the others.', ge=0.0)
    schedule: str = param(
        'cosine', 'How the step size falls.', choices=('cosine', 'step', 'constant'))
    warm_up_epochs: float = param(0.5, 'Epochs in which the step size rises.', ge=0.0)
    weight_decay: float = param(0.01, 'Pull of the weights towards 0.', ge=0.0)
    average: float = param(
        0.998, 'Memory of the average of the weights, which is what is kept; 0 keeps the last '
        'weights themselves.', ge=0.0, le=0.99999)
    patience: int = param(
        0, 'Epochs without a better validation score after which training stops; 0: never.', ge=0)
    validate_every: int = param(1, 'Epochs from one validation to the next.', ge=1)
    seed: int = param(0, 'Of everything random.', ge=0)
    device: str = param('auto', "Where to train: 'auto' (a GPU where there is one), 'cpu', "
                        "'cuda:N'.")


class Task(Protocol):
    """What the loop asks of a script: a network, examples, losses and a validation."""

    score: str  # which of the validation's numbers chooses the checkpoint; more is better

    @property
    def network(self) -> nn.Module:
        """The network, always the same object."""
        ...

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the new and the pretrained parameters; what is in neither stays as it is."""
        ...

    def steps(self, batch_size: int) -> int:
        """Return how many batches an epoch has."""
        ...

    def batches(self, epoch: int, batch_size: int, rng: np.random.Generator) -> Iterable[Any]:
        """Yield the batches of an epoch, in an order drawn from ``rng``."""
        ...

    def losses(self, batch: Any, device: torch.device) -> Mapping[str, torch.Tensor]:
        """Return the terms whose sum is to become small."""
        ...

    def validate(self, network: Any, device: torch.device) -> Mapping[str, float]:
        """Return how good a copy of the network is; it is in evaluation mode."""
        ...


def whole_batches(examples: int, batch_size: int) -> int:
    """Return how many whole batches examples make; fewer than a batch make one."""
    return max(1, examples // batch_size)


def shuffled(
    examples: int, batch_size: int, rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Return the rows of the whole batches of an epoch; what is left over sits it out."""
    order = rng.permutation(examples)
    return [order[k * batch_size:(k + 1) * batch_size]
            for k in range(whole_batches(examples, batch_size))]


def fit(
    task: Task, params: LoopParams, folder: Path, said: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """
    Train until the epochs are over or patience is, and leave the best weights in the network.

    ``folder`` gets ``history.jsonl`` (a line per epoch), ``curves.png``, ``checkpoint.pt`` to go
    on from, ``best.pt``, and TensorBoard's files where that is installed.

    :param said: What the task was told besides; a run is only resumed when it is the same.
    :return: The best validation, with its ``epoch`` and the CPU time of all epochs, ``cpu_s``.
    :raises ValueError: If the folder holds a run of other settings, a loss is not finite, or the
        score is not a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(params.device, False)
    run = _Run(task, params, folder, device, _settings(params, said or {}))
    run.resume()
    while run.epoch < params.epochs and not run.has_lost_patience:
        run.train_epoch()
    task.network.load_state_dict(load_whole(folder / BEST)['network'])
    task.network.eval()
    log.info('best of %d epoch(s): %s', run.epoch, told(run.best))
    return {**run.best, 'cpu_s': run.cpu_s}


def is_begun(folder: Path) -> bool:
    """Return whether a training in this folder would be resumed."""
    return (folder / _CHECKPOINT).is_file()


def scores_now(task: Task) -> str:
    """Return what the validation says of the network as it is, on the CPU, as a sentence."""
    device = choose_device('cpu', False)
    with torch.inference_mode():
        return told(task.validate(task.network.to(device).eval(), device))


class _Run:
    """A training and how far it has come."""

    def __init__(self, task: Task, params: LoopParams, folder: Path, device: torch.device,
                 settings: str) -> None:
        self._settings = settings
        self._task, self._params, self._folder, self._device = task, params, folder, device
        _seed(params.seed, 0)
        task.network.to(device).to(memory_format=torch.channels_last)
        self._optimizer, self._rates = _optimizer(task, params)
        self._scaler = torch.amp.GradScaler(device.type, enabled=device.type == 'cuda')
        self._average = AveragedModel(
            task.network, multi_avg_fn=_average_of(params.average),
            use_buffers=True) if params.average else None
        self.epoch = 0
        self.best: dict[str, float] = {}
        self._curves = Curves(folder)

    @property
    def has_lost_patience(self) -> bool:
        """Return whether the validation has not become better for too long."""
        patience = self._params.patience
        return bool(patience and self.best and self.epoch - self.best['epoch'] >= patience)

    @property
    def cpu_s(self) -> float:
        """Return the CPU time of all epochs, also of those before the run was resumed."""
        return self._curves.total('cpu_s')

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if it has one."""
        file = self._folder / _CHECKPOINT
        if not file.is_file():
            self._curves.begin()
            return
        state = load_whole(file)
        if state['settings'] != self._settings:
            raise ValueError(other_settings(self._folder, state['settings'], self._settings))
        self._task.network.load_state_dict(state['network'])
        self._optimizer.load_state_dict(state['optimizer'])
        if state['scaler']:  # empty where the run was begun on a CPU
            self._scaler.load_state_dict(state['scaler'])
        if self._average is not None:
            self._average.load_state_dict(state['average'])
        self.epoch, self.best = state['epoch'], state['best']
        self._curves.go_on(self.epoch)
        log.info('going on after epoch %d', self.epoch)

    def train_epoch(self) -> None:
        """Train for one epoch, validate, and save what a later start needs."""
        start_s, start_cpu_s = time.monotonic(), time.process_time()
        rng = _seed(self._params.seed, self.epoch + 1)
        sums = self._steps(rng)
        self.epoch += 1
        row: dict[str, float] = {'epoch': self.epoch, **sums}
        is_last = self.epoch == self._params.epochs
        if is_last or self.epoch % self._params.validate_every == 0:
            row |= self._validated()
        row['wall_s'] = time.monotonic() - start_s
        row['cpu_s'] = time.process_time() - start_cpu_s
        self._curves.add(row)
        self._save()
        log.info('%s', told(row))

    def _steps(self, rng: np.random.Generator) -> dict[str, float]:
        task, params = self._task, self._params
        steps = task.steps(params.batch_size)
        task.network.train()
        sums: dict[str, float] = {}
        batches = task.batches(self.epoch, params.batch_size, rng)
        bar = tqdm(batches, f'epoch {self.epoch + 1}', steps, unit='step', disable=None,
                   leave=False)
        for k, batch in enumerate(bar):
            share = _rate(self.epoch + k / steps, params)
            for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
                group['lr'] = rate * share
            losses = self._step(batch)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value / steps
        return sums

    def _step(self, batch: Any) -> dict[str, float]:
        with torch.autocast(self._device.type, torch.float16,
                            enabled=self._device.type == 'cuda'):
            terms = self._task.losses(batch, self._device)
        loss = torch.stack(list(terms.values())).sum()
        values = {f'loss_{name}': float(value.detach()) for name, value in terms.items()}
        if not math.isfinite(sum(values.values())):
            raise ValueError(
                f'the losses of epoch {self.epoch + 1} are {values}; lower learning_rate, '
                f'which is {self._params.learning_rate:g}')
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(
            [p for group in self._optimizer.param_groups for p in group['params']],
            _LONGEST_GRADIENT)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update_parameters(self._task.network)
        return values

    def _validated(self) -> dict[str, float]:
        network = self._task.network if self._average is None else self._average.module
        network.eval()
        with torch.inference_mode():
            scores = dict(self._task.validate(network, self._device))
        score = self._task.score
        if math.isnan(scores[score]):
            raise ValueError(
                f'the validation says {score} nan after epoch {self.epoch}; it chooses the best '
                'weights: does the validation set hold what it is counted from?')
        if not self.best or scores[score] > self.best[score]:
            self.best = {'epoch': self.epoch, **scores}
            save_whole(self._folder / BEST, {'network': network.state_dict()})
        return scores

    def _save(self) -> None:
        average = {} if self._average is None else {'average': self._average.state_dict()}
        save_whole(self._folder / _CHECKPOINT, {
            'settings': self._settings, 'epoch': self.epoch, 'best': self.best,
            'network': self._task.network.state_dict(),
            'optimizer': self._optimizer.state_dict(), 'scaler': self._scaler.state_dict(),
            **average})


def _seed(seed: int, epoch: int) -> np.random.Generator:
    """Seed what torch draws, such as dropout, and return a generator for the rest."""
    rng = np.random.default_rng([seed, epoch])
    torch.manual_seed(int(rng.integers(2**62)))
    return rng


def _average_of(memory: float) -> Callable[[Any, Any, Any], None]:
    """
    Return how a step moves the average.

    At first the memory is a tenth of the steps so far, as in TensorFlow's
    ExponentialMovingAverage: what norms count from would otherwise outlast a short training.
    """
    def update(averaged: Any, current: Any, steps: Any) -> None:
        n = float(steps)
        get_ema_multi_avg_fn(min(memory, (1.0 + n) / (10.0 + n)))(averaged, current, steps)

    return update


def _optimizer(
    task: Task, params: LoopParams
) -> tuple[torch.optim.Optimizer, list[float]]:
    """Return the optimizer and the largest rate of each of its groups."""
    groups, rates = [], []
    for parameters, rate in zip(task.parameters(), (1.0, params.backbone_rate), strict=True):
        # norms and biases have nothing to gain from being small
        for decays in (True, False):
            chosen = [p for p in parameters if p.requires_grad and (p.ndim > 1) == decays]
            if chosen:
                groups.append({'params': chosen,
                               'weight_decay': params.weight_decay if decays else 0.0})
                rates.append(params.learning_rate * rate)
    if params.optimizer == 'sgd':
        return torch.optim.SGD(groups, params.learning_rate, momentum=0.9, nesterov=True), rates
    kind = torch.optim.AdamW if params.optimizer == 'adamw' else torch.optim.Adam
    return kind(groups, params.learning_rate), rates


def _rate(epoch: float, params: LoopParams) -> float:
    """Return the share of the largest step size at a moment, counted in epochs."""
    rise = min(1.0, (epoch + 1e-3) / params.warm_up_epochs) if params.warm_up_epochs else 1.0
    progress = epoch / params.epochs
    if params.schedule == 'cosine':
        return rise * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)))
    if params.schedule == 'step':
        return rise * float(_STEP_FACTOR ** sum(progress >= edge for edge in _STEP_EPOCHS))
    return rise


def _settings(params: LoopParams, said: Mapping[str, Any]) -> str:
    return json.dumps({**asdict(params), **said}, sort_keys=True)


def save_whole(file: Path, state: Mapping[str, Any]) -> None:
    """Write a file that is either there whole or not there."""
    with whole_file(file) as draft:
        torch.save(dict(state), draft)


def load_whole(file: Path) -> dict[str, Any]:
    """Read one of our checkpoints without executing what is in it."""
    try:
        state: dict[str, Any] = torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # torch has no common base for its errors
        first_line = str(error).partition('\n')[0]
        raise ValueError(
            f'{file} is no checkpoint of a training, or damaged: delete it to begin again '
            f'({first_line})') from error
    return state


def other_settings(folder: Path, begun_with: str, given: str) -> str:
    """Return the sentence for a folder whose run was told something else; both are JSON."""
    was, now = json.loads(begun_with), json.loads(given)
    different = ', '.join(
        f'{name} {json.dumps(was.get(name))} (now {json.dumps(now.get(name))})'
        for name in sorted({*was, *now}) if was.get(name) != now.get(name))
    return (f'{folder} holds a training with other settings: {different}; give the settings it '
            'was begun with, or another folder')


def told(row: Mapping[str, float]) -> str:
    return ', '.join(f'{name} {value:.4g}' for name, value in row.items())

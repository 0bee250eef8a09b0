"""Hyperparameters that move while the weights are trained: one training, from wherever it begins.

    theta <- theta - rate * gradient / sqrt(mean square of the gradients so far)

Several starts are trained side by side for a while and the worse half is given up, again and again, until one is left. A run
that meets no number, or whose criterion rises far above its best, goes back to its best moment, takes a step along
`retreat`, and never moves beyond it again.

Source: Franceschi et al. (2017), section 3.3 (RTHO); the gradients may forget, as in Donini et al. (2020, MARTHE), see
`Forward`. Successive halving: Jamieson & Talwalkar (2016). Scaling each coordinate by its own gradients: Tieleman & Hinton
(2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from skhypergrad.bilevel.optimizers.oracle import Budget
from skhypergrad.bilevel.region import Region
from skhypergrad.bilevel.solution import Status

# How much of the mean square is remembered from one gradient to the next.
MEMORY = 0.8


class Moment(NamedTuple):
    """A moment of a training run: where it is, what it has come to, and what it needs to go on."""

    theta: np.ndarray
    carry: Any
    value: float
    square: Any


@dataclass(frozen=True)
class RealTime:
    """Move hyperparameters while the weights are trained (see the module).

    Parameters
    ----------
    rate : float, default=0.1
        Length of a step on the free scale, in natural logarithms.
    starts : tuple of (n_coordinates,) tuples, default=()
        Where runs begin, on the free scale; none for the space's `init`.
    trial : int, default=1
        Evaluations before the first halving of the starts; twice as many before each further one.
    patience : int, default=10
        Evaluations without a better value after which the run goes back to its best moment and retreats.
    retreats : int, default=2
        How often it does so before it ends.
    retreat : tuple of (n_coordinates,), default=()
        A step on the free scale that makes a run that diverges a calmer one, for instance log(1/3) for a learning rate.
    """

    rate: float = 0.1
    starts: tuple = ()
    trial: int = 1
    patience: int = 10
    retreats: int = 2
    retreat: tuple = ()

    honours_sums: ClassVar[bool] = False
    needs_descent: ClassVar[bool] = True

    def minimize(self, oracle, theta, region: Region, budget: Budget) -> Status:
        best, used = self._begin(oracle, theta, region, budget)
        if not np.isfinite(best.value):
            return Status.inner_failed
        now, since, left = best, 0, self.retreats
        retreat = np.asarray(self.retreat) if self.retreat else np.zeros(len(theta))
        low, high = map(np.array, (region.low, region.high))
        while used < budget.max_steps:
            new = self._follow(oracle, now, low, high, budget)
            used, since = used + 1, since + 1
            if new.value < best.value:
                best, since = new, 0
            if np.isfinite(new.value) and since < self.patience:
                now = new
                continue
            if not left or not retreat.any():
                return Status.stopped_early if np.isfinite(new.value) else Status.inner_failed
            left, since = left - 1, 0
            place = np.clip(best.theta + retreat, low, high)
            high = np.where(retreat < 0, np.minimum(high, place), high)
            low = np.where(retreat > 0, np.maximum(low, place), low)
            # the next time from here: what goes on from the same moment with the same rates is the same run
            now = best = best._replace(theta=place)
        return Status.max_steps

    def _begin(self, oracle, theta, region, budget):
        """The best start after all halvings, and the evaluations used."""
        thetas = [np.clip(np.asarray(start, float), region.low, region.high) for start in self.starts] or [theta]
        moments, used, length = [Moment(start, None, np.inf, None) for start in thetas], 0, self.trial
        while True:
            advanced = []
            for moment in moments:
                for _ in range(length):
                    moment = self._follow(oracle, moment, region.low, region.high, budget)
                    used += 1
                    if not np.isfinite(moment.value):
                        break
                advanced.append(moment)
            moments = sorted(advanced, key=lambda moment: moment.value)[: max(len(advanced) // 2, 1)]
            if len(moments) == 1:
                return moments[0], used
            length *= 2

    def compared(self, solved) -> int:
        """How many evaluations, by what became of each, went into the comparison of the starts."""
        used, left, length = 0, max(len(self.starts), 1), self.trial
        while True:
            for _ in range(left):
                stretch = list(solved[used : used + length])
                used += stretch.index(False) + 1 if False in stretch else len(stretch)
            left = max(left // 2, 1)
            if left == 1:
                return used
            length *= 2

    def _follow(self, oracle, now: Moment, low, high, budget) -> Moment:
        """The moment after one more stretch of training."""
        answer = oracle(now.theta, now.carry, budget.inner_tol)
        if not answer.solved:
            return Moment(now.theta, None, np.inf, None)
        square = answer.gradient**2 if now.square is None else MEMORY * now.square + (1 - MEMORY) * answer.gradient**2
        step = self.rate * answer.gradient / np.sqrt(np.where(square > 0, square, 1.0))
        return Moment(np.clip(now.theta - step, low, high), answer.carry, answer.value, square)

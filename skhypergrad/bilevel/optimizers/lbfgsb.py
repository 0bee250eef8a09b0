"""Several starts, then SciPy's L-BFGS-B from the best basins.

    starts     points over the whole box, evaluated at low accuracy, each started from its neighbour's answer
    descents   from the best start of every basin that shows, at full accuracy, best first

Source: Byrd, Lu, Nocedal & Zhu (1995), by `scipy.optimize.minimize`. Its first step is minus the gradient; the criterion
is therefore scaled so that this step has the length `first_step`, where a raw criterion would waste evaluations on a
first step of the size of the gradient. Cross-validated losses have several minima (ridge: Stephenson et al. 2021), so
one descent is not enough; with the starts the result is never worse than a grid of `n_starts` values.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.optimize
from scipy.stats import qmc

from skhypergrad.bilevel.optimizers.oracle import Answer, Budget, projected, scale_of
from skhypergrad.bilevel.solution import Status


class Start(NamedTuple):
    theta: np.ndarray
    answer: Answer


@dataclass(frozen=True)
class LBFGSB:
    """L-BFGS-B from the best of several starts (see the module).

    Parameters
    ----------
    n_starts : int or "auto", default="auto"
        Points evaluated before the first descent, besides the given one. "auto": about one per factor of 5 along one
        coordinate, between 5 and 16; in several dimensions the same along the box's diagonal, and as many quasi-random
        points off it.
    n_descents : int, default=3
        Basins descended at most.
    first_step : float, default=1.0
        Length of the first step on the free scale (see `bilevel.space`): 1 is a factor of e, or a tenth of the interval.
    coarse_tol : float, default=1e-4
        Inner tolerance of the starts.
    tol : float, default=1e-8
        Inner tolerance of the descents.
    seed : int, default=0
        Of the quasi-random starts.
    """

    n_starts: int | str = "auto"
    n_descents: int = 3
    first_step: float = 1.0
    coarse_tol: float = 1e-4
    tol: float = 1e-8
    seed: int = 0

    def minimize(self, oracle, theta, bounds, budget: Budget) -> Status:
        starts = self._evaluate_starts(oracle, theta, bounds)
        solved = [s for s in starts if s.answer.solved]
        if not solved:
            return Status.inner_failed
        values = [s.answer.value for s in solved]
        scale = scale_of(min(values), values)
        if np.ptp(values) <= 1e-12 * scale and len(values) > 1:
            return Status.flat
        steps_left = budget.max_steps
        statuses = []
        for start in _basins(solved, bounds)[: self.n_descents]:
            status, used = self._descend(oracle, start, bounds, steps_left, budget.tol * scale)
            statuses.append(status)
            steps_left -= used
            if steps_left <= 0:
                break
        return Status.max_steps if steps_left <= 0 else statuses[0]

    def _evaluate_starts(self, oracle, theta, bounds) -> list[Start]:
        starts: list[Start] = []
        for point in start_points(theta, bounds, self.n_starts, self.seed):
            nearest = min(starts, key=lambda s: np.max(np.abs(s.theta - point)), default=None)
            carry = nearest.answer.carry if nearest is not None and nearest.answer.solved else None
            starts.append(Start(point, oracle(point, carry, self.coarse_tol)))
        return starts

    def _descend(self, oracle, start: Start, bounds, max_steps: int, pgtol: float) -> tuple[Status, int]:
        """L-BFGS-B from one start; the status, and the evaluations used."""
        carry, used, status = start.answer.carry, 0, Status.stalled
        slope = np.max(np.abs(projected(start.theta, start.answer.gradient, bounds)))
        if slope == 0:
            slope = 1.0
        scale = self.first_step / slope
        best = start.answer.value

        def scaled(theta):
            nonlocal carry, used, status, best
            if used >= max_steps:
                status = Status.max_steps
                raise _Leave
            used += 1
            answer = oracle(theta, carry, self.tol)
            if not answer.solved:
                status = Status.inner_failed
                raise _Leave
            carry = answer.carry
            best = min(best, answer.value)
            if np.max(np.abs(projected(theta, answer.gradient, bounds))) <= pgtol and answer.value <= best:
                status = Status.converged
                raise _Leave
            return (answer.value - start.answer.value) * scale, answer.gradient * scale

        options = {"maxiter": max_steps, "maxfun": 10 * max_steps, "ftol": 0.0, "gtol": 0.0}
        box = scipy.optimize.Bounds(*bounds)
        with contextlib.suppress(_Leave):
            scipy.optimize.minimize(scaled, start.theta, jac=True, method="L-BFGS-B", bounds=box, options=options)
        return status, used


class _Leave(Exception):
    """Ends a descent from within SciPy's loop."""


def start_points(theta, bounds, n_starts, seed) -> np.ndarray:
    """Starting points (n, n_coordinates): the diagonal of the box from corner to corner, more off it, and `theta`.

    From the middle outwards, so that every point but the first has an evaluated neighbour to start from.
    """
    low, high = bounds
    if n_starts == "auto":
        n_starts = int(np.clip(np.ceil(np.max(high - low) / np.log(5)) + 1, 5, 16))
    share = np.linspace(0, 1, n_starts)
    points = low + share[np.argsort(np.abs(share - 0.5), kind="stable"), None] * (high - low)
    if len(theta) > 1 and n_starts > 1:
        sobol = qmc.Sobol(len(theta), rng=np.random.default_rng(seed)) if len(theta) <= 16 else None
        if sobol is not None:
            extra = low + sobol.random(1 << (n_starts - 1).bit_length())[:n_starts] * (high - low)
            points = np.concatenate([points, extra])
    distance = np.max(np.abs(points - theta), axis=1)
    middle = np.allclose(theta, (low + high) / 2)
    return points if middle or np.min(distance) == 0 else np.concatenate([points, theta[None]])


def _basins(starts: list[Start], bounds) -> list[Start]:
    """The starts that no neighbour beats, best first.

    Along one coordinate, both ends of every interval in which the slope turns from falling to rising are in a basin;
    the better end stands for it. In several dimensions every start may be one.
    """
    if len(starts[0].theta) > 1:
        return sorted(starts, key=lambda s: s.answer.value)
    line = sorted(starts, key=lambda s: s.theta[0])
    chosen = []
    for left, right in itertools.pairwise(line):
        if left.answer.gradient[0] < 0 < right.answer.gradient[0]:
            chosen.append(min(left, right, key=lambda s: s.answer.value))
    for end, outward in ((line[0], -1), (line[-1], 1)):
        if outward * end.answer.gradient[0] <= 0:
            chosen.append(end)
    best = min(line, key=lambda s: s.answer.value)
    unique = {id(s): s for s in [best, *chosen]}
    return sorted(unique.values(), key=lambda s: s.answer.value)

"""Several starts, then descents of the best basins, along many coordinates by SciPy's L-BFGS-B.

    starts     points over the whole box, evaluated at low accuracy, each started from its neighbour's answer
    descents   from the best start of every basin that shows, at full accuracy, best first

Along one coordinate a basin lies between two starts, and `line` closes in on it without SciPy's line search. Along several,
a start that slopes down towards a minimum found before is taken to be in its basin. Along two or three, `trust_region` takes
the place of SciPy where the oracle answers several points at once.

Source: Byrd, Lu, Nocedal & Zhu (1995), by `scipy.optimize.minimize`. SciPy's first step is minus the gradient; the criterion
is therefore scaled so that this step has the length `first_step`, where a raw criterion would waste evaluations on a
first step of the size of the gradient. Cross-validated losses have several minima (ridge: Stephenson et al. 2021), so
one descent is not enough; with the starts the result is never worse than a grid of `n_starts` values.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.optimize
from scipy.stats import qmc

from skhypergrad.bilevel.optimizers import line, trust_region
from skhypergrad.bilevel.optimizers.oracle import BACKTRACKS, Budget, Place, ask, is_done, scale_of
from skhypergrad.bilevel.region import Region
from skhypergrad.bilevel.solution import Status


@dataclass(frozen=True)
class LBFGSB:
    """Descents from the best of several starts, along many coordinates L-BFGS-B's (see the module).

    Parameters
    ----------
    n_starts : int or "auto", default="auto"
        Points evaluated before the first descent, besides the space's `init`; 1 for that alone. "auto": about one per
        factor of 10 along one coordinate, between 5 and 16; in several dimensions the same along the box's diagonal,
        and as many quasi-random points off it.
    halvings : int, default=0
        Along one coordinate, how often the gaps beside the best start are halved before the first descent: for criteria that
        cost little, among whose starts a narrow basin could be missed.
    n_descents : int, default=3
        Basins descended at most.
    first_step : float, default=1.0
        Length of the first step on the free scale (see `bilevel.space`): 1 is a factor of e, or a tenth of the interval.
    coarse_tol : float, default=3e-3
        Inner tolerance of the starts.
    tol : float, default=1e-6
        Inner tolerance of the descents; less where the outer tolerance asks for it (10 * outer**1.75).
    resolution : float, default=0.0
        On the free scale; what lies closer to an evaluated point is not looked at. For criteria that are rough on small
        scales, as trainings of networks make them.
    seed : int, default=0
        Of the quasi-random starts.
    """

    n_starts: int | str = "auto"
    n_descents: int = 3
    halvings: int = 0
    first_step: float = 1.0
    coarse_tol: float = 3e-3
    tol: float = 1e-6
    resolution: float = 0.0
    seed: int = 0

    honours_sums: ClassVar[bool] = False
    needs_descent: ClassVar[bool] = True

    def minimize(self, oracle, theta, region: Region, budget: Budget) -> Status:
        starts = self._evaluate_starts(oracle, theta, region)
        solved = [s for s in starts if s.answer.solved]
        if not solved:
            return Status.inner_failed
        values = [s.answer.value for s in solved]
        scale = scale_of(min(values), values)
        if np.ptp(values) <= 1e-12 * scale and len(values) > 1:
            return Status.flat
        along_line = len(theta) == 1 and len(solved) > 1
        return (self._close_in if along_line else self._descend_all)(oracle, solved, region, budget, scale)

    def _close_in(self, oracle, starts: list[Place], region, budget: Budget, scale: float) -> Status:
        """The minima between neighbouring starts along one coordinate, the most promising first."""
        coarse = self._is_coarse(budget)
        points = sorted((line.Point(float(s.theta[0]), s.answer, coarse) for s in starts), key=lambda p: p.x)
        limits = self._inner_tol(budget), budget.inner_tol, budget.tol * scale
        steps_left, best, first = budget.max_steps, np.inf, None
        for basin in line.basins(points)[: self.n_descents]:
            if not line.promises(basin, best):
                continue
            status, used = line.descend(oracle, points, basin, *limits, steps_left, self.resolution)
            first, steps_left = first or status, steps_left - used
            best = min((p.value for p in points if not p.coarse), default=np.inf)
            if steps_left <= 0:
                return Status.max_steps
        lowest = min(points, key=lambda p: p.value)
        if lowest.coarse:
            # at an end, or so it seems
            return line.descend(oracle, points, (lowest, lowest), *limits, steps_left, self.resolution)[0]
        return first or Status.boundary

    def _descend_all(self, oracle, starts: list[Place], region, budget: Budget, scale: float) -> Status:
        """Descents from the best starts, but for those on the slopes of a minimum that was found before."""
        steps_left, statuses, ends = budget.max_steps, list[Status](), list[Place]()
        few = len(starts[0].theta) <= min(trust_region.FEW, getattr(oracle, "at_once", 1) - 1)
        descend = self._descend_few if few else self._descend
        for start in sorted(starts, key=lambda s: s.answer.value)[: self.n_descents]:
            if not self.resolution and any(_leads_to(start, end) for end in ends):
                continue
            status, used, end = descend(oracle, start, region, steps_left, budget, scale)
            statuses.append(status)
            ends.append(end)
            steps_left -= used
            if steps_left <= 0:
                return Status.max_steps
        return statuses[0]

    def _descend_few(self, oracle, start: Place, region, max_steps: int, budget: Budget, scale: float):
        """Newton steps from one start, as `_descend`; an oracle that answers several points at once has no coarse answers."""
        limits = budget.inner_tol, budget.tol * scale, max_steps, self.resolution
        return trust_region.descend(oracle, start, region, self.first_step, *limits)

    def _is_coarse(self, budget: Budget) -> bool:
        """Whether the answers of the starts are less accurate than they could be."""
        return self.coarse_tol > budget.inner_tol

    def _inner_tol(self, budget: Budget) -> float:
        return min(self.tol, 10 * budget.tol**1.75)

    def _evaluate_starts(self, oracle, theta, region) -> list[Place]:
        points = start_points(theta, region, self.n_starts, self.seed)
        starts = [Place(*pair) for pair in zip(points, ask(oracle, points, self.coarse_tol), strict=True)]
        solved = [s for s in starts if s.answer.solved]
        if len(theta) == 1 and len(solved) > 1 and self.halvings:
            best = min(solved, key=lambda s: s.answer.value)
            here, places = best.theta[0], np.unique([s.theta[0] for s in starts])
            share = np.linspace(0, 1, 2**self.halvings + 1)[1:-1]
            # what is closer than a first step is looked at anyway
            beside = (*places[places < here][-1:], *places[places > here][:1])
            gaps = [here + share * (end - here) for end in beside if abs(end - here) > self.first_step]
            points = np.reshape(gaps, (-1, 1))
            starts += [Place(*pair) for pair in zip(points, ask(oracle, points, self.coarse_tol), strict=True)]
        return starts

    def _descend(
        self, oracle, start: Place, region, max_steps: int, budget: Budget, scale: float
    ) -> tuple[Status, int, Place]:
        """L-BFGS-B from one start; the status, the evaluations used, and where it ended."""
        if not region.slope(start.theta, start.answer.gradient).any():
            # in a corner of the box, with every slope pointing out: there is nowhere to go
            return Status.boundary, 0, start
        tol, small = self._inner_tol(budget), budget.tol * scale
        options = {"maxiter": max_steps, "maxfun": 10 * max_steps, "ftol": 0.0, "gtol": 0.0}
        box = scipy.optimize.Bounds(*region)
        used, step = 0, self.first_step
        for _ in range(1 + BACKTRACKS):
            descent = _Descent(
                oracle, start, region, max_steps - used, small, tol, step, self.resolution, self._is_coarse(budget)
            )
            with contextlib.suppress(_Leave):
                scipy.optimize.minimize(descent, start.theta, jac=True, method="L-BFGS-B", bounds=box, options=options)
            used += descent.used
            if descent.status is not Status.inner_failed:
                break
            # back to the last solved point, and from there less far than to where the inner problem failed
            start, step = descent.last or start, descent.reach / 4
        return descent.status, used, descent.last or start


class _Descent:
    """The function that SciPy minimises: scaled, counted, and left as soon as there is nothing more to gain."""

    def __init__(self, oracle, start: Place, region, max_steps, pgtol, tol, first_step, resolution, coarse):
        self.oracle, self.region, self.max_steps, self.pgtol, self.tol = oracle, region, max_steps, pgtol, tol
        slope = np.max(np.abs(region.slope(start.theta, start.answer.gradient)))
        self.zero, self.scale = start.answer.value, first_step / (slope if slope > 0 else 1.0)
        self.carry, self.used, self.status = start.answer.carry, 0, Status.stalled
        self.last: Place | None = None
        self.start, self.reach = start, 0.0
        self.resolution, self.coarse = resolution, coarse

    def __call__(self, theta):
        distance = np.max(np.abs(theta - (self.last or self.start).theta))
        if distance == 0 and self.last is None and not self.coarse:
            return 0.0, self.start.answer.gradient * self.scale
        if 0 < distance < self.resolution:
            self.status = Status.resolved
            raise _Leave
        if self.used >= self.max_steps:
            self.status = Status.max_steps
            raise _Leave
        self.used += 1
        answer = self.oracle(theta, self.carry, self.tol)
        if not answer.solved:
            self.status = Status.inner_failed
            self.reach = distance
            raise _Leave
        self.carry = answer.carry
        done = self._is_done(theta, answer)
        self.last = Place(np.array(theta), answer)
        if done:
            self.status = Status.converged
            raise _Leave
        return (answer.value - self.zero) * self.scale, answer.gradient * self.scale

    def _is_done(self, theta, answer) -> bool:
        slope = self.region.slope(theta, answer.gradient)
        if self.last is None:
            return is_done(slope, self.pgtol, None, None)
        return is_done(slope, self.pgtol, theta - self.last.theta, answer.gradient - self.last.answer.gradient)


class _Leave(Exception):
    """Ends a descent from within SciPy's loop."""


def _leads_to(start: Place, end: Place) -> bool:
    """Whether a start is higher than where another descent ended, and slopes down towards it."""
    return start.answer.value > end.answer.value and start.answer.gradient @ (end.theta - start.theta) < 0


def start_points(theta, region, n_starts, seed) -> np.ndarray:
    """Starting points (n, n_coordinates): the diagonal of the box from corner to corner, more off it, and `theta`.

    From the middle outwards, so that every point but the first has an evaluated neighbour to start from.
    """
    low, high = region
    if n_starts == "auto":
        n_starts = int(np.clip(np.ceil(np.max(high - low) / np.log(10) - 1e-9) + 1, 5, 16))
    if n_starts == 1:
        return theta[None]
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

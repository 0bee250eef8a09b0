"""Descent along two or three coordinates: Newton steps in a trust region, with second derivatives from differences.

    m(p) = g.p + p.Hp / 2,     low <= theta + p <= high,  |p_i| <= radius;      H_i = (g(theta + h e_i) - g(theta)) / h

The model is minimised exactly, whether convex or not: on a box, a quadratic is least at the stationary point of one of the
box's faces, of which there are 9 or 27. A point and those of its differences are asked for together: where an oracle answers
several about as soon as one, a step takes no longer than one of a quasi-Newton method, and learns all of the curvature.

Source: Conn, Gould & Toint (2000), Trust-Region Methods, algorithm 6.1.1, rounding as in its section 17.4; Nocedal & Wright,
Numerical Optimization, section 8.1, for the differences.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from skhypergrad.bilevel.optimizers.oracle import BACKTRACKS, GAIN, Place, ask
from skhypergrad.bilevel.region import Region
from skhypergrad.bilevel.solution import Status

# Coordinates at most: a box has three to this power faces.
FEW = 3
# Distance of the differences, on the free scale: what it adds to the error of a second derivative, and what rounding does.
APART = 1e-4
# The radius grows where more than this share of what the model promised was gained, and shrinks where less was.
GOOD, POOR = 0.75, 0.25
# What rounding leaves of a number, relative.
ROUNDING = 10 * np.finfo(float).eps


class Model(NamedTuple):
    """The quadratic that has a point's value, gradient and, (n_coordinates, n_coordinates), second derivatives."""

    place: Place
    hessian: np.ndarray

    @property
    def value(self) -> float:
        return self.place.answer.value

    def least(self, region: Region, radius: float = np.inf) -> tuple[np.ndarray, float]:
        """The step to where the model is least, and how far it is below the point's value there."""
        (theta, answer), (low, high) = self.place, region
        return least(answer.gradient, self.hessian, np.maximum(low - theta, -radius), np.minimum(high - theta, radius))

    def is_done(self, region: Region, small: float) -> bool:
        """Whether the projected gradient is at most `small`, and little to be gained from it."""
        slope = region.slope(self.place.theta, self.place.answer.gradient)
        return bool(np.max(np.abs(slope)) <= small) and (not slope.any() or self.least(region)[1] <= GAIN * small)


def descend(
    oracle, start: Place, region: Region, radius: float, tol: float, small: float, max_steps: int, resolution: float
) -> tuple[Status, int, Place]:
    """Step until a projected gradient is at most `small`; the status, the evaluations used, and where it ended.

    The first step is no longer than `radius`, and the last not shorter than `resolution`. Their accuracy is `tol`.
    """
    cost = used = 1 + len(start.theta)
    model, failures = _look(oracle, start.theta, region, tol) if cost <= max_steps else None, 0
    if model is None:
        return (Status.inner_failed, used, start) if cost <= max_steps else (Status.max_steps, 0, start)
    while not model.is_done(region, small):
        if used + cost > max_steps:
            return Status.max_steps, used, model.place
        step, promised = model.least(region, radius)
        length = np.max(np.abs(step))
        if length < resolution:
            return Status.resolved, used, model.place
        if length <= ROUNDING * np.max(np.abs(model.place.theta)):
            return Status.stalled, used, model.place
        ahead = _look(oracle, np.clip(model.place.theta + step, *region), region, tol)
        used, failures = used + cost, 0 if ahead else failures + 1
        if failures > BACKTRACKS:
            return Status.inner_failed, used, model.place
        noise = ROUNDING * abs(model.value)
        share = (model.value - ahead.value + noise) / (promised + noise) if ahead else -np.inf
        radius = length / 4 if share < POOR else max(radius, 2 * length) if share > GOOD else radius
        if ahead and share > 0:
            model = ahead
    return Status.converged, used, model.place


def _look(oracle, theta, region: Region, tol: float) -> Model | None:
    """The model around a point; None where that or one beside it is not solved."""
    # inside the box, however narrow it is
    apart = np.minimum(APART, (region.high - region.low) / 2)
    apart = np.where(theta + apart <= region.high, apart, -apart)
    answers = ask(oracle, [theta, *(theta + np.diag(apart))], tol)
    if not all(answer.solved for answer in answers):
        return None
    here, *beside = (answer.gradient for answer in answers)
    hessian = (np.array(beside) - here) / apart[:, None]
    return Model(Place(theta, answers[0]), (hessian + hessian.T) / 2)


def least(gradient, hessian, low, high) -> tuple[np.ndarray, float]:
    """Where gradient.p + p.hessian.p / 2 is least among low <= p <= high with 0 among them, and how far below zero."""
    best, lowest = np.zeros_like(gradient), 0.0
    for side in itertools.product((0, -1, 1), repeat=len(gradient)):
        face = np.array(side)
        free = face == 0
        step = np.where(free, 0.0, np.where(face < 0, low, high))
        if free.any():
            curvature = hessian[np.ix_(free, free)]
            if np.linalg.cond(curvature) > 1 / ROUNDING:
                # what is stationary here, if anything is, reaches as low on a smaller face
                continue
            step[free] = np.linalg.solve(curvature, -(gradient + hessian @ step)[free])
            if np.any((step < low) | (step > high)):
                continue
        value = gradient @ step + step @ hessian @ step / 2
        if value < lowest:
            best, lowest = step, value
    return best, -lowest

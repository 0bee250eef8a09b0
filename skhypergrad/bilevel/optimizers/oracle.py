"""What passes between the tuning loop and an outer optimizer."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from skhypergrad.bilevel.region import Region
from skhypergrad.bilevel.solution import Status

# Answers among which the nearest one is looked for.
RECENT = 16


class Answer(NamedTuple):
    """The oracle's answer at one point.

    Attributes
    ----------
    value : float; gradient : (n_coordinates,), both on the free scale
    carry : the hypergradient's memory, to be handed in again at a nearby point
    solved : bool; where False, value and gradient are no numbers to be used
    """

    value: float
    gradient: np.ndarray
    carry: Any
    solved: bool


class Place(NamedTuple):
    """A point, (n_coordinates,), with what the oracle answered there."""

    theta: np.ndarray
    answer: Answer


def ask(oracle, points, tol) -> list[Answer]:
    """Answers at several points: together where the oracle can, else one by one."""
    return (oracle.together if hasattr(oracle, "together") else functools.partial(one_by_one, oracle))(points, tol)


def one_by_one(oracle, points, tol) -> list[Answer]:
    """Answers at several points, each begun at the nearest one before that was solved."""
    places, answers = np.asarray(points, float), list[Answer]()
    for i, point in enumerate(places):
        known = [j for j in range(max(i - RECENT, 0), i) if answers[j].solved]
        nearest = min(known, key=lambda j: np.max(np.abs(places[j] - point)), default=None)
        answers.append(oracle(point, None if nearest is None else answers[nearest].carry, tol))
    return answers


class Visit(NamedTuple):
    """One point of a path: (n_coordinates,) theta, value, (n_coordinates,) gradient, and whether these can be trusted."""

    theta: np.ndarray
    value: float
    gradient: np.ndarray
    solved: bool


class Path(NamedTuple):
    """What `oracle.follow(rule, theta, memory, carry, tol, steps)` has come to after at most `steps` moves.

    `rule.move(theta, gradient, memory) -> (theta, memory)` is traceable, and its points are projected onto the region.
    Compiled code is keyed by the rule.

    Attributes
    ----------
    theta, memory, carry : to go on from
    visits : list of Visit, at least one
    """

    theta: Any
    memory: Any
    carry: Any
    visits: list[Visit]


class Budget(NamedTuple):
    """What an optimizer may spend, and when it is done.

    Attributes
    ----------
    max_steps : evaluations after the starting points
    tol : of the projected gradient, relative to the criterion
    inner_tol : inner tolerance of an answer that needs no further verification
    """

    max_steps: int
    tol: float
    inner_tol: float = 1e-9


class Stop(Exception):
    """Raised by an oracle that must not be called any more; `status` says why."""

    def __init__(self, status: Status):
        super().__init__(status.name)
        self.status = status


# How often a descent goes back from a point without an answer before it gives up.
BACKTRACKS = 5

# What a further step must promise, in units of the slope that counts as zero.
GAIN = 1e-3


def is_done(slope, small: float, move, change) -> bool:
    """Whether a projected gradient is at most `small`, and little to be gained from it at the curvature of the last move.

    The gradient alone does not tell: far out on a plateau it is small, and the way down is long.

    Parameters
    ----------
    slope : (n,) projected gradient
    small : what counts as zero
    move, change : (n,) of the point and of the gradient, or None before the first move
    """
    if not np.max(np.abs(slope)) <= small:
        return False
    if not slope.any():
        return True
    if move is None:
        return False
    curvature = move @ change
    return bool(curvature > 0 and slope @ slope * (move @ move) / curvature / 2 <= GAIN * small)


def scale_of(value: float, values) -> float:
    """What a change of the criterion is compared with: its size, or its spread over `values` where it is near zero."""
    finite = [v for v in values if np.isfinite(v)]
    spread = np.ptp(finite) if finite else 0.0
    return max(abs(value), min(spread, 1.0), np.finfo(float).tiny)


def is_stationary(theta, value, gradient, region: Region, tol, values) -> bool:
    """Whether the projected gradient is at most tol times the criterion's scale (False for NaN)."""
    return bool(np.max(np.abs(region.slope(theta, gradient))) <= tol * scale_of(value, values))

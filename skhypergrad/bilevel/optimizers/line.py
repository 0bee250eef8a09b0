"""Descent along one coordinate: a minimum between two points is closed in on by cubic interpolation.

    x = the minimiser of the cubic that has the values and slopes of two neighbours;    x joins the points

Source: Davidon (1959); Nocedal & Wright, Numerical Optimization, section 3.5. Near a minimum every evaluation about squares
the distance, and there is no line search to pay for. The neighbours may come from coarse evaluations: where the cubic leads
to such a point, that point is evaluated itself, and if it slopes the other way the search goes on beyond it.
"""

from __future__ import annotations

import bisect
import itertools
from typing import NamedTuple

import numpy as np

from skhypergrad.bilevel.optimizers.oracle import BACKTRACKS, Answer, is_done
from skhypergrad.bilevel.solution import Status

# A coarse neighbour is evaluated itself when the cubic leads closer to it than this share of the interval.
CLOSE = 0.1
# In so many evaluations the interval must have been halved, or else its middle is next.
PATIENCE = 3
# A step that is likely to be the last, on the free scale.
SHORT = 0.1


class Point(NamedTuple):
    """A place on the line with the oracle's answer; `coarse` when that was at low accuracy."""

    x: float
    answer: Answer
    coarse: bool = False

    @property
    def value(self):
        return self.answer.value

    @property
    def slope(self):
        return self.answer.gradient[0]


def basins(line: list[Point]) -> list[tuple[Point, Point]]:
    """Every pair of neighbours on a sorted line that has a minimum between them, the lowest first."""
    pairs = [pair for pair in itertools.pairwise(line) if _has_minimum(*pair)]
    return sorted(pairs, key=lambda pair: cubic(*pair)[1])


def promises(basin: tuple[Point, Point], best: float) -> bool:
    """Whether a basin twice as deep as its cubic would reach below `best`."""
    _, lowest = cubic(*basin)
    return 2 * lowest - min(point.value for point in basin) < best


def cubic(left: Point, right: Point) -> tuple[float, float]:
    """The minimiser of the cubic through both values and slopes and its value there; the middle where it has none."""
    width = right.x - left.x
    bend = left.slope + right.slope - 3 * (right.value - left.value) / width
    root = np.sqrt(max(bend**2 - left.slope * right.slope, 0.0))
    below = right.slope - left.slope + 2 * root
    t = 1 - (right.slope + root - bend) / below if below > 0 else 0.5
    t = t if 0 <= t <= 1 else 0.5
    value = (1 - t) ** 2 * ((1 + 2 * t) * left.value + t * width * left.slope)
    value += t**2 * ((3 - 2 * t) * right.value - (1 - t) * width * right.slope)
    return left.x + t * width, value


def descend(
    oracle, line, basin, tol: float, final: float, small: float, max_steps: int, resolution: float = 0.0
) -> tuple[Status, int]:
    """Evaluate until a slope is at most `small` and no step promises more; the status, and the evaluations used.

    Every evaluation becomes a point of the sorted `line`. Their accuracy is `tol`, and `final` where a step is so short
    that it is likely to be the last. What is closer than `resolution` to a point is not looked at. A basin that is one point,
    twice, is to be looked at from there.
    """
    # found by its place: an earlier descent may have evaluated it again
    here, used = bisect.bisect_left(line, basin[0].x, key=lambda p: p.x), 0
    widths: list[float] = []
    while True:
        around = [pair for pair in itertools.pairwise(line[max(here - 1, 0) : here + 2]) if _has_minimum(*pair)]
        if not around:
            onward = here - int(np.sign(line[here].slope))
            ends = onward == here or not 0 <= onward < len(line)
            if ends and not line[here].coarse:
                return (Status.converged if onward == here else Status.boundary), used
            if not ends:
                here = onward
                continue
        if used >= max_steps:
            return Status.max_steps, used
        if around:
            left, right = min(around, key=lambda pair: cubic(*pair)[1])
            widths.append(right.x - left.x)
            x = _next(left, right, widths)
        else:
            # a coarse slope may hide a minimum
            left = right = line[here]
            x = left.x
        near = min(left, right, key=lambda point: abs(point.x - x))
        if 0 < abs(x - near.x) < resolution:
            return Status.resolved, used
        likely_last = left is right or (not near.coarse and abs(near.x - x) < SHORT)
        for _ in range(min(1 + BACKTRACKS, max_steps - used)):
            answer = oracle(np.array([x]), near.answer.carry, final if likely_last else tol)
            used += 1
            if answer.solved or x == near.x:
                break
            # back to where problems can be solved
            x, likely_last = (x + near.x) / 2, False
        if not answer.solved:
            return Status.inner_failed, used
        point = Point(x, answer)
        here = bisect.bisect_left(line, x, key=lambda p: p.x)
        if x in (left.x, right.x):
            line[here] = point
        else:
            line.insert(here, point)
        other = right if x == left.x else left if x == right.x else near
        if is_done(answer.gradient, small, np.array([x - other.x]), answer.gradient - other.answer.gradient):
            return Status.converged, used
        if around and widths[-1] <= 4 * np.finfo(float).eps * max(abs(left.x), abs(right.x)):
            return Status.stalled, used


def _has_minimum(left: Point, right: Point) -> bool:
    """Whether one of two points descends towards the other, which is higher or descends towards it, too."""
    down, up = left.slope < 0, right.slope > 0
    return bool((down and (up or right.value > left.value)) or (up and left.value > right.value))


def _next(left: Point, right: Point, widths: list[float]) -> float:
    width = right.x - left.x
    if len(widths) > PATIENCE and width > widths[-1 - PATIENCE] / 2:
        return left.x + width / 2
    x, _ = cubic(left, right)
    for end in (left, right):
        if end.coarse and abs(x - end.x) <= CLOSE * width:
            return end.x
    # apart from both ends, or nothing would be learnt
    return float(np.clip(x, left.x + 1e-3 * width, right.x - 1e-3 * width))

"""A look at given points: a curve, a contour, or one point to be verified. Nothing is descended.

Each point is started from the answers at its neighbours, as in a path algorithm.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skhypergrad.bilevel.optimizers.oracle import Budget, ask
from skhypergrad.bilevel.region import Region
from skhypergrad.bilevel.solution import Status


@dataclass(frozen=True)
class Sweep:
    """Evaluate given points, whatever the hypergradient says (see the module).

    Parameters
    ----------
    points : int or tuple of tuples of float, default=20
        A lattice of so many values along each coordinate, from bound to bound; or the points themselves,
        (n_points, n_coordinates) on the free scale. An empty tuple is for the space's `init` alone.
    tol : float, default=0.0
        Inner tolerance, but the method's own where that is larger.

    Raises
    ------
    ValueError
        By `minimize`, for a lattice of more than 100,000 points.
    """

    points: int | tuple = 20
    tol: float = 0.0

    honours_sums: ClassVar[bool] = True
    needs_descent: ClassVar[bool] = False

    def minimize(self, oracle, theta, region: Region, budget: Budget) -> Status:
        answers = ask(oracle, self._places(theta, region), max(self.tol, budget.inner_tol))
        return Status.swept if any(answer.solved for answer in answers) else Status.inner_failed

    def _places(self, theta, region: Region):
        """The points, neighbours one after another."""
        if not isinstance(self.points, int):
            return [np.array(p, float) for p in self.points] or [np.array(theta, float)]
        if self.points ** len(theta) > 100_000:
            raise ValueError(
                f"A lattice of {self.points} values along {len(theta)} coordinates has {self.points ** len(theta):.0e} "
                "points; sweep fewer hyperparameters at a time, or name the points."
            )
        axes = [np.linspace(low, high, self.points) for low, high in zip(region.low, region.high, strict=True)]
        places, forth = [], True
        for row in itertools.product(*axes[:-1]):
            line = axes[-1] if forth else axes[-1][::-1]
            places += [np.array([*row, x]) for x in line]
            forth = not forth
        return places

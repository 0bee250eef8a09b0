"""Where the free coordinates may lie: a box, and sums of some of them; with the projection onto it.

    P(x) = argmin |p - x|**2  with  low <= p <= high  and  least <= sum(p) <= most
         = clip(x - nu, low, high),   nu = 0 where the sum allows it, else the root of a decreasing function

Source: the optimality conditions of the projection; with low = 0 and both sums equal it is that onto a simplex (Held, Wolfe &
Crowder 1974), with most alone that onto the weights of data hyper-cleaning (Franceschi et al. 2017).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# A move that is short beside the box, and long beside rounding: it tells in which directions a face can be left.
PROBE = 1e-6


class Sum(NamedTuple):
    """least <= sum(theta[start:stop]) <= most"""

    start: int
    stop: int
    least: float
    most: float


@dataclass(frozen=True)
class Region:
    """A box of coordinates with bounds on sums; iterating over it gives the box's two corners.

    Parameters
    ----------
    low, high : (n_coordinates,) corners of the box
    sums : tuple of Sum, of ranges that do not overlap, default=()
    """

    low: np.ndarray
    high: np.ndarray
    sums: tuple[Sum, ...] = ()

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.low, self.high))

    def project(self, theta) -> Any:
        """The nearest point of the region; traceable."""
        nearest = jnp.clip(theta, self.low, self.high)
        for start, stop, least, most in self.sums:
            part = slice(start, stop)
            nearest = nearest.at[part].set(_shifted(theta[part], self.low[part], self.high[part], least, most))
        return nearest

    def slope(self, theta, gradient) -> np.ndarray:
        """The part of the gradient that can be descended: zero at bounds that it points out of.

        Not theta - project(theta - gradient), which for a criterion in large units is the distance to a bound, however steep.
        """
        outward = ((theta <= self.low) & (gradient > 0)) | ((theta >= self.high) & (gradient < 0))
        slope = np.where(outward, 0.0, gradient)
        size = np.max(np.abs(gradient))
        if self.sums and np.isfinite(size) and size > 0:
            step = PROBE / size
            probed = (theta - np.asarray(self.project(theta - step * gradient))) / step
            for start, stop, _, _ in self.sums:
                slope[start:stop] = probed[start:stop]
        return slope


@jax.jit
def _shifted(x, low, high, least, most):
    """clip(x - nu, low, high) with a sum between `least` and `most`, nu = 0 where that is so already."""
    plain = jnp.clip(x, low, high)
    total = jnp.clip(jnp.sum(plain), least, most)

    def halve(_, ends):
        below, above = ends
        middle = (below + above) / 2
        large = jnp.sum(jnp.clip(x - middle, low, high)) > total
        return jnp.where(large, middle, below), jnp.where(large, above, middle)

    below, above = jax.lax.fori_loop(0, 100, halve, (jnp.min(x - high), jnp.max(x - low)))
    nu = (below + above) / 2
    # the exact root, from the coordinates that are free there
    free = (x - nu > low) & (x - nu < high)
    rest = jnp.sum(jnp.where(free, x, jnp.clip(x - nu, low, high)))
    nu = jnp.where(jnp.any(free), (rest - total) / jnp.maximum(jnp.sum(free), 1), nu)
    return jnp.where(jnp.sum(plain) == total, plain, jnp.clip(x - nu, low, high))

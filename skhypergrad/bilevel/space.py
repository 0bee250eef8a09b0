"""Boxes of hyperparameters, and the bijection between their natural and their free scale.

    log scale:     theta = log(hyper)                        d hyper / d theta = hyper
    linear scale:  theta = 10 (hyper - low) / (high - low)   d hyper / d theta = (high - low) / 10

Optimizers move `theta`, a flat vector; problems see `hyper`, a dict of arrays on their natural scale. A unit of theta is
a sensible first step on either scale: a factor of e, or a tenth of the interval.

>>> space = Space({"alpha": Real(1e-2, 1e2), "mix": Real(0.0, 4.0, scale="linear")})
>>> space.theta({"alpha": 1.0, "mix": 1.0})
array([0. , 2.5])
>>> space.hyper([0.0, 2.5])
{'alpha': array(1.), 'mix': array(1.)}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from skhypergrad.bilevel.region import Region, Sum

LINEAR_UNITS = 10.0


@dataclass(frozen=True)
class Real:
    """A continuous hyperparameter between two bounds.

    Parameters
    ----------
    low, high : float
        Bounds on the natural scale, both included; finite, low < high, and positive on the log scale.
    scale : {"log", "linear"}, default="log"
        How distances are measured: strengths and learning rates belong on the log scale (natural logarithm).
    shape : tuple of int, default=()
        `()` for a scalar; `(n_targets,)` for a value per target, and so on. The bounds hold for every element.
    init : float or array of `shape`, default=None
        A point the search starts from besides its own; None for the middle of the box on the chosen scale.
    budget : float, default=None
        What the elements sum up to at most; on the linear scale, for `FirstOrder` and `HOAG`.
    total : float, default=None
        What the elements sum up to exactly: with low=0 a simplex. As `budget`, and instead of it.

    Raises
    ------
    ValueError
        By `check`, when the search begins: bounds reversed, not finite, or not positive on the log scale; a sum that the
        bounds do not allow.
    """

    low: float
    high: float
    scale: Literal["log", "linear"] = "log"
    shape: tuple[int, ...] = ()
    init: float | None = None
    budget: float | None = None
    total: float | None = None

    def check(self, name: str) -> None:
        """Raise ValueError, naming the hyperparameter, unless the box is usable."""
        if self.scale not in ("log", "linear"):
            raise ValueError(f"The scale of {name!r} must be 'log' or 'linear', got {self.scale!r}.")
        if not (np.isfinite(self.low) and np.isfinite(self.high)):
            raise ValueError(f"The bounds of {name!r} must be finite numbers, got [{self.low}, {self.high}].")
        if not self.low < self.high:
            raise ValueError(
                f"The bounds of {name!r} must satisfy low < high, got [{self.low}, {self.high}]; "
                "a single value belongs in a list."
            )
        if self.scale == "log" and self.low <= 0:
            raise ValueError(
                f"The lower bound of {name!r} must be positive on the log scale, got {self.low}; "
                "use a small positive number, or scale='linear'."
            )
        if self.init is not None:
            inside = np.all((np.asarray(self.init) >= self.low) & (np.asarray(self.init) <= self.high))
            if not inside or np.shape(self.init) not in ((), self.shape):
                raise ValueError(
                    f"init of {name!r} must lie in [{self.low}, {self.high}] and have the shape () or {self.shape}, "
                    f"got {self.init!r}."
                )
        self._check_sum(name)

    def _check_sum(self, name: str) -> None:
        if self.sums is None:
            return
        word = "budget" if self.total is None else "total"
        if self.budget is not None and self.total is not None:
            raise ValueError(f"{name!r} has a budget and a total; the total alone says it.")
        if self.scale != "linear":
            raise ValueError(f"The {word} of {name!r} is a bound on a sum, and needs scale='linear'.")
        least, most = self.size * self.low, self.size * self.high
        value = self.sums[1]
        if not least <= value <= most:
            raise ValueError(f"The {word} of {name!r}, {value}, must lie between {least} and {most}, as its bounds do.")

    @property
    def sums(self) -> tuple[float, float] | None:
        """What the elements sum up to at least and at most, on the natural scale; None for anything."""
        if self.total is not None:
            return self.total, self.total
        return None if self.budget is None else (-np.inf, self.budget)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def to_theta(self, value):
        if self.scale == "log":
            return np.log(value)
        return LINEAR_UNITS * (np.asarray(value) - self.low) / (self.high - self.low)

    def to_hyper(self, theta, xp: Any = np):
        """The natural value; rounding neither leaves the box nor misses a bound."""
        value = xp.exp(theta) if self.scale == "log" else self.low + (self.high - self.low) * theta / LINEAR_UNITS
        value = xp.where(theta <= self.to_theta(self.low), self.low, value)
        return xp.where(theta >= self.to_theta(self.high), self.high, xp.clip(value, self.low, self.high))

    def slope(self, value, xp: Any = np):
        """The derivative of the natural value with respect to theta."""
        return value if self.scale == "log" else xp.full(xp.shape(value), (self.high - self.low) / LINEAR_UNITS)


class Space:
    """Named `Real`s, in a fixed order, and the flat vector they make on the free scale.

    Parameters
    ----------
    reals : mapping of str to Real

    Raises
    ------
    ValueError
        When a box is unusable (see `Real`) or there is none.

    Notes
    -----
    Two spaces are equal when they map alike; where a search starts does not matter. `xp` is `numpy`, or `jax.numpy` within
    compiled code.
    """

    def __init__(self, reals: Mapping[str, Real]):
        if not reals:
            raise ValueError("A Space needs at least one hyperparameter.")
        for name, real in reals.items():
            real.check(name)
        self.reals = dict(reals)
        sizes = [real.size for real in self.reals.values()]
        self._ends = np.cumsum(sizes)[:-1]
        self._maps = tuple((name, r.low, r.high, r.scale, r.shape, r.sums) for name, r in self.reals.items())

    def __repr__(self):
        return f"Space({self.reals!r})"

    def __eq__(self, other):
        return isinstance(other, Space) and self._maps == other._maps

    def __hash__(self):
        return hash(self._maps)

    def _flat(self, pieces, xp: Any = np):
        arrays = [
            xp.broadcast_to(xp.asarray(piece, float), real.shape)
            for piece, real in zip(pieces, self.reals.values(), strict=True)
        ]
        return xp.concatenate([array.ravel() for array in arrays])

    def theta(self, hyper: Mapping) -> np.ndarray:
        """Free-scale vector of a dict of natural values (scalars are broadcast to their shape)."""
        return self._flat([real.to_theta(hyper[name]) for name, real in self.reals.items()])

    def hyper(self, theta, xp: Any = np) -> dict[str, Any]:
        """Dict of natural values, float64 arrays of each `Real`'s shape."""
        pieces = xp.split(xp.asarray(theta, float), self._ends)
        return {
            name: xp.asarray(real.to_hyper(piece.reshape(real.shape), xp))
            for (name, real), piece in zip(self.reals.items(), pieces, strict=True)
        }

    def pull_back(self, gradient: Mapping, hyper: Mapping, xp: Any = np):
        """d f / d theta from d f / d hyper, by the chain rule of the bijection."""
        slopes = {name: real.slope(hyper[name], xp) for name, real in self.reals.items()}
        return self._flat([xp.asarray(gradient[name]) * slope for name, slope in slopes.items()], xp)

    def natural(self, gradient, hyper: Mapping) -> dict[str, np.ndarray]:
        """d f / d hyper from d f / d theta: the inverse of `pull_back`."""
        pieces = np.split(np.asarray(gradient, float), self._ends)
        return {
            name: piece.reshape(real.shape) / real.slope(hyper[name])
            for (name, real), piece in zip(self.reals.items(), pieces, strict=True)
        }

    def region(self) -> Region:
        """What the free scale may be: the box, and the sums."""
        low = self._flat([real.to_theta(real.low) for real in self.reals.values()])
        high = self._flat([real.to_theta(real.high) for real in self.reals.values()])
        sums, start = [], 0
        for real in self.reals.values():
            stop = start + real.size
            if real.sums is not None:
                unit = (real.high - real.low) / LINEAR_UNITS
                sums.append(Sum(start, stop, *((value - real.size * real.low) / unit for value in real.sums)))
            start = stop
        return Region(low, high, tuple(sums))

    def init(self) -> np.ndarray:
        """Where a search begins: each `init` where given, else the middle of the box; within the sums."""
        region = self.region()
        given = self._flat([np.nan if r.init is None else r.to_theta(r.init) for r in self.reals.values()])
        theta = np.where(np.isnan(given), (region.low + region.high) / 2, given)
        return np.array(region.project(theta), float) if region.sums else theta

    def coordinates(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name and index of every element of theta, for messages."""
        return [(name, index) for name, real in self.reals.items() for index in np.ndindex(real.shape)]

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
from typing import Literal

import numpy as np

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

    Raises
    ------
    ValueError
        By `check`, when the search begins: bounds reversed, not finite, or not positive on the log scale.
    """

    low: float
    high: float
    scale: Literal["log", "linear"] = "log"
    shape: tuple[int, ...] = ()
    init: float | None = None

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

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def to_theta(self, value):
        if self.scale == "log":
            return np.log(value)
        return LINEAR_UNITS * (np.asarray(value) - self.low) / (self.high - self.low)

    def to_hyper(self, theta):
        """The natural value; rounding neither leaves the box nor misses a bound."""
        theta = np.asarray(theta, float)
        value = np.exp(theta) if self.scale == "log" else self.low + (self.high - self.low) * theta / LINEAR_UNITS
        value = np.where(theta <= self.to_theta(self.low), self.low, value)
        return np.where(theta >= self.to_theta(self.high), self.high, np.clip(value, self.low, self.high))

    def slope(self, value):
        """The derivative of the natural value with respect to theta."""
        return value if self.scale == "log" else np.full(np.shape(value), (self.high - self.low) / LINEAR_UNITS)


class Space:
    """Named `Real`s, in a fixed order, and the flat vector they make on the free scale.

    Parameters
    ----------
    reals : mapping of str to Real

    Raises
    ------
    ValueError
        When a box is unusable (see `Real`) or there is none.
    """

    def __init__(self, reals: Mapping[str, Real]):
        if not reals:
            raise ValueError("A Space needs at least one hyperparameter.")
        for name, real in reals.items():
            real.check(name)
        self.reals = dict(reals)
        sizes = [real.size for real in self.reals.values()]
        self._ends = np.cumsum(sizes)[:-1]

    def __repr__(self):
        return f"Space({self.reals!r})"

    def _flat(self, pieces) -> np.ndarray:
        arrays = [
            np.broadcast_to(np.asarray(piece, float), real.shape)
            for piece, real in zip(pieces, self.reals.values(), strict=True)
        ]
        return np.concatenate([array.ravel() for array in arrays])

    def theta(self, hyper: Mapping) -> np.ndarray:
        """Free-scale vector of a dict of natural values (scalars are broadcast to their shape)."""
        return self._flat([real.to_theta(hyper[name]) for name, real in self.reals.items()])

    def hyper(self, theta) -> dict[str, np.ndarray]:
        """Dict of natural values, float64 arrays of each `Real`'s shape."""
        pieces = np.split(np.asarray(theta, float), self._ends)
        return {
            name: np.asarray(real.to_hyper(piece.reshape(real.shape)))
            for (name, real), piece in zip(self.reals.items(), pieces, strict=True)
        }

    def pull_back(self, gradient: Mapping, hyper: Mapping) -> np.ndarray:
        """d f / d theta from d f / d hyper, by the chain rule of the bijection."""
        return self._flat([np.asarray(gradient[n]) * real.slope(hyper[n]) for n, real in self.reals.items()])

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner of the box on the free scale."""
        low = self._flat([real.to_theta(real.low) for real in self.reals.values()])
        high = self._flat([real.to_theta(real.high) for real in self.reals.values()])
        return low, high

    def init(self) -> np.ndarray:
        """Where a search begins: each `init` where given, else the middle of the box."""
        low, high = self.bounds()
        given = self._flat([np.nan if r.init is None else r.to_theta(r.init) for r in self.reals.values()])
        return np.where(np.isnan(given), (low + high) / 2, given)

    def coordinates(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name and index of every element of theta, for messages."""
        return [(name, index) for name, real in self.reals.items() for index in np.ndindex(real.shape)]

"""From the values of a `param_grid` to the engine's `Real`; lists stay candidates.

>>> from scipy.stats import loguniform
>>> listed, continuous = split({"alpha": loguniform(1e-3, 1e3), "fit_intercept": [True, False]})
>>> listed
{'fit_intercept': [True, False]}
>>> continuous["alpha"].low, continuous["alpha"].high, continuous["alpha"].scale
(0.001, 1000.0, 'log')
"""

from __future__ import annotations

from typing import Any, Literal

from skhypergrad.bilevel.space import Real

REMEDY = (
    "Continuous values are scipy.stats.loguniform(low, high), scipy.stats.uniform(low, width), "
    "skhypergrad.Real(low, high), skopt's Real and Optuna's FloatDistribution; anything else belongs in a list."
)


def split_all(param_grid: Any) -> list[tuple[Any, dict[str, Real]]]:
    """`split` of every dict in `param_grid`; what is no dict is left for ParameterGrid to refuse in its own words."""
    grids = [param_grid] if isinstance(param_grid, dict) else param_grid
    return [split(grid) if isinstance(grid, dict) else (grid, {}) for grid in grids]


def split(grid: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Real]]:
    """The listed part of one grid, untouched, and its continuous part.

    Raises
    ------
    TypeError
        For a distribution that is not a bounded continuous one on the linear or the log scale.
    ValueError
        For unusable bounds (see `Real.check`).
    """
    continuous = {}
    for name, value in grid.items():
        real = real_of(name, value)
        if real is not None:
            real.check(name)
            continuous[name] = real
    return {name: value for name, value in grid.items() if name not in continuous}, continuous


def real_of(name: str, value: Any) -> Real | None:
    """The `Real` a value stands for, or None for a value that is no continuous space."""
    if isinstance(value, Real):
        return value
    if hasattr(value, "dist") and hasattr(value, "support"):
        return _from_scipy(name, value)
    # skopt and Optuna are recognised by name: their integer spaces have the same attributes as the real ones
    if type(value).__name__ == "Real" and hasattr(value, "prior"):
        return Real(float(value.low), float(value.high), "log" if value.prior == "log-uniform" else "linear")
    if type(value).__name__ == "FloatDistribution":
        if value.step is not None:
            raise TypeError(
                f"The FloatDistribution of {name!r} has a step, so it is a grid: write the values as a list."
            )
        return Real(float(value.low), float(value.high), "log" if value.log else "linear")
    if hasattr(value, "rvs") or type(value).__name__.endswith("Distribution"):
        raise TypeError(f"{type(value).__name__} is not a continuous space for {name!r}. {REMEDY}")
    return None


def _from_scipy(name, frozen) -> Real:
    scales: dict[str, Literal["log", "linear"]] = {"loguniform": "log", "reciprocal": "log", "uniform": "linear"}
    family = frozen.dist.name
    if family not in scales:
        raise TypeError(f"The distribution {family!r} is not a continuous space for {name!r}. {REMEDY}")
    low, high = frozen.support()
    return Real(float(low), float(high), scales[family])

"""The registry: which scikit-learn estimators the engine can stand in for, and how.

>>> from sklearn.linear_model import Ridge
>>> list(lookup(Ridge()).tunable)
['alpha']
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from skhypergrad.exceptions import NotTunableError


class Target(NamedTuple):
    """The target as the engine sees it.

    Attributes
    ----------
    y : (n_samples, n_outputs) float64
        Regression targets, 0/1 labels of the second class, one-hot rows, or -1/+1 rows, as the loss wants them.
    loss : callable, the engine's loss that takes y in this form
    classes : (n_classes,) or None for regression, sorted
    """

    y: np.ndarray
    loss: Callable
    classes: np.ndarray | None = None


@dataclass(frozen=True)
class Adapter:
    """What the search needs to know of one linear model with its parameters as they are.

    Attributes
    ----------
    tunable : dict of str to str
        Hyperparameters the engine can differentiate, each with an example of a space, for messages.
    strength, fit_intercept
        Of the engine's `LinearModel`; `strength` takes a dict of the tunable values in scikit-learn's own convention.
    criteria : tuple of str
        Names of the criteria that make sense for it, the default one first.
    criteria_are_scores : bool, default=True
        Whether a scorer of the same metric sees what the criterion sees (raw values, not labels).
    encode : callable, y -> Target
    train_weight : callable, (y, sample_weight or None) -> (n_samples,)
        The weights one fit gives to its training rows, class weights included.
    write : callable, (estimator, coef, intercept, target, y) -> None
        Turn an unfitted estimator into a fitted one, from coef (n_features, n_outputs) and intercept (n_outputs,).
    """

    tunable: dict[str, str]
    strength: Callable
    fit_intercept: bool
    criteria: tuple[str, ...]
    encode: Callable
    train_weight: Callable
    write: Callable
    criteria_are_scores: bool = True

    # the engine's solution is the estimator's own fit
    solves: ClassVar[bool] = True


@dataclass(frozen=True)
class NetworkAdapter:
    """What the search needs to know of one multilayer perceptron with its parameters as they are.

    Attributes
    ----------
    tunable, criteria, encode
        As in `Adapter`.
    rule : {"adam", "momentum", "nesterov"}
        What it is trained by.
    fixed : dict of str to float
        Every number that its training depends on, those in `tunable` included.
    write : callable, (estimator, layers, target, y) -> None
        Turn an unfitted estimator into one that predicts, from (coef, intercept) of every layer.
    """

    tunable: dict[str, str]
    criteria: tuple[str, ...]
    encode: Callable
    rule: str
    fixed: dict[str, float]
    write: Callable

    criteria_are_scores: ClassVar[bool] = True
    # a training depends on chance: the winner is fitted by scikit-learn
    solves: ClassVar[bool] = False


_registry: dict[type, Callable[[Any], Adapter | NetworkAdapter]] = {}


def register(cls: type) -> Callable:
    """Decorate a function `estimator -> Adapter` to make `cls` known to the search.

    Looked up by exact type: a subclass may minimise something else, so it is not understood until it registers itself.
    The function may raise `NotTunableError` when the estimator's parameters rule the engine out, saying which.
    """

    def decorate(function):
        _registry[cls] = function
        return function

    return decorate


def registered() -> list[type]:
    """The estimator classes the search understands, in order of registration."""
    import skhypergrad.adapters.linear_model
    import skhypergrad.adapters.neural_network  # noqa: F401  (both register on import)

    return list(_registry)


def lookup(estimator) -> Any:
    """The adapter of an estimator, by its exact type.

    Raises
    ------
    NotTunableError
        For a type that is not registered, naming those that are.
    """
    known = registered()
    if type(estimator) not in known:
        names = ", ".join(cls.__name__ for cls in known)
        raise NotTunableError(
            f"No hyperparameter of {type(estimator).__name__} can be tuned continuously. Estimators that can: {names}, "
            "alone or as the last step of a Pipeline. Lists of values work for any estimator."
        )
    return _registry[type(estimator)](estimator)

"""Warnings and errors of the package; every other one is scikit-learn's, SciPy's or Python's own."""

from sklearn.exceptions import ConvergenceWarning


class BoundaryWarning(ConvergenceWarning):
    """The optimum lies on a bound of the search space; the message names the hyperparameter and the side."""


class NotTunableError(TypeError, ValueError):
    """A continuous space was given for something the search cannot differentiate; the message lists what it can.

    Both a TypeError (the value is of a kind that this parameter cannot take) and a ValueError (as every unusable
    argument of a scikit-learn estimator).
    """


__all__ = ["BoundaryWarning", "NotTunableError"]

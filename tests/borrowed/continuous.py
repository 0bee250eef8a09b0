"""A pytest plugin: as `substitute`, but lists of C and alpha become continuous spaces from the least to the largest value.

In the tests `LogisticRegression` stands for `LinearSVC`, which has no smooth loss. A search's best score must be at least
that of the list on the same folds, by fits that are run to their optimum: an unfinished one may score better by luck.
"""

import inspect
import warnings
from numbers import Real

import numpy as np
import sklearn.model_selection
import substitute
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge

from skhypergrad import HypergradSearchCV, register
from skhypergrad.adapters import lookup

GridSearchCV = substitute.grid_search
TUNED = ("C", "alpha")


class LogisticNoScore(LogisticRegression):
    @property
    def score(self):
        raise AttributeError


register(LogisticNoScore)(lambda estimator: lookup(LogisticRegression(**estimator.get_params())))


def widened(values):
    """The interval of a list of positive numbers; a single one in its middle."""
    if not isinstance(values, list) or not all(isinstance(v, Real) and v > 0 for v in values):
        return values
    low, high = min(values), max(values)
    return loguniform(low, high) if low < high else loguniform(low / 2, high * 2)


class Continuous(HypergradSearchCV):
    def fit(self, X, y=None, **params):
        given = self.param_grid
        if isinstance(given, dict) and type(self.estimator) in (Ridge, LogisticRegression, LogisticNoScore):
            self.param_grid = {k: widened(v) if k in TUNED else v for k, v in given.items()}
        try:
            super().fit(X, y, **params)
        finally:
            self.param_grid = given
        if hasattr(self, "trace_") and hasattr(self, "best_score_"):
            self._compare(X, y, params)
        return self

    def _make_tuner(self):
        tuner = super()._make_tuner()
        # as some splitters draw other folds every time
        self.__dict__["_drawn"] = tuner.splits
        return tuner

    def _compare(self, X, y, params):
        names = inspect.signature(GridSearchCV).parameters
        given = {name: value for name, value in self.get_params(deep=False).items() if name in names}
        estimator = clone(self.estimator)
        if isinstance(estimator, LogisticRegression):
            estimator.set_params(solver="newton-cholesky", tol=1e-10)
        grid = GridSearchCV(**{**given, "verbose": 0, "estimator": estimator, "cv": self.__dict__.pop("_drawn")})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            grid.fit(X, y, **params)
        # a fit that refits nothing may leave the score of an earlier one
        if hasattr(grid, "best_score_") and not np.isnan(grid.best_score_):
            assert self.best_score_ >= grid.best_score_ - 1e-6 * abs(grid.best_score_), (
                self.best_score_,
                grid.best_score_,
            )


Continuous.__name__ = Continuous.__qualname__ = "HypergradSearchCV"
sklearn.model_selection.GridSearchCV = Continuous


def pytest_collection_modifyitems(items):
    for module in {item.module for item in items}:
        module.LinearSVC, module.LinearSVCNoScore = LogisticRegression, LogisticNoScore


pytest_runtest_logreport = substitute.pytest_runtest_logreport
pytest_sessionfinish = substitute.pytest_sessionfinish

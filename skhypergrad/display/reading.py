"""What a fitted search has evaluated, as displays want it; and what it makes of further points."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from sklearn.utils.validation import check_is_fitted

from skhypergrad.adapters.pipeline import last_step
from skhypergrad.adapters.space import split_all
from skhypergrad.bilevel import Real, Sweep
from skhypergrad.bilevel.solution import elements
from skhypergrad.exceptions import BoundaryWarning


class Winner(NamedTuple):
    """The combination of listed values that won, and the space that was searched within it.

    Attributes
    ----------
    listed : dict of its listed values, full names
    continuous : dict of Real, full names
    prefix : str, what full names begin with
    estimator : the last step of the pipeline
    """

    listed: dict
    continuous: dict[str, Real]
    prefix: str
    estimator: Any


class Evaluated(NamedTuple):
    """The points of one search in the order of their first evaluation, each as its most accurate evaluation has it.

    Attributes
    ----------
    names : list of str, of the coordinates, as in `trace_`
    reals : list of Real, their spaces
    values : (n_points, n_coordinates), natural scale
    criterion : (n_points,)
    gradient : (n_points, n_coordinates), free scale; NaN where the trace has no such columns
    splits : (n_points, n_splits), criterion of each fold
    starts : (n_points,) of bool, whether evaluated before the first descent
    descents : list of int arrays, the points of each descent in order
    chosen, best : int, the point of `best_params_`, and that of the smallest accurate criterion
    called : str, name of the criterion
    """

    names: list[str]
    reals: list[Real]
    values: np.ndarray
    criterion: np.ndarray
    gradient: np.ndarray
    splits: np.ndarray
    starts: np.ndarray
    descents: list[np.ndarray]
    chosen: int
    best: int
    called: str

    @property
    def theta(self) -> np.ndarray:
        """(n_points, n_coordinates), free scale."""
        return to_theta(self.reals, self.values)

    @property
    def bounds(self) -> np.ndarray:
        """(2, n_coordinates), free scale."""
        return to_theta(self.reals, [[r.low for r in self.reals], [r.high for r in self.reals]])


def to_theta(reals, values) -> np.ndarray:
    """(n_points, n_coordinates) on the free scale from the natural one, a `Real` for each column."""
    return np.stack([real.to_theta(column) for real, column in zip(reals, np.transpose(values), strict=True)], axis=-1)


def to_hyper(reals, theta) -> np.ndarray:
    """(n_points, n_coordinates) on the natural scale from the free one, a `Real` for each column."""
    return np.stack([real.to_hyper(column) for real, column in zip(reals, np.transpose(theta), strict=True)], axis=-1)


def winner_of(search) -> Winner:
    """What won in a fitted search.

    Raises
    ------
    NotFittedError
    ValueError
        Where the best candidate has no continuous values, or there is no best one, or `param_grid` has changed since.
    """
    check_is_fitted(search, "cv_results_")
    if not hasattr(search, "trace_"):
        raise ValueError(
            f"This {type(search).__name__} has listed values only, and no trace of evaluations to be drawn. Give it a "
            "continuous space, or draw scikit-learn's ValidationCurveDisplay; ConvergenceDisplay takes either."
        )
    if not hasattr(search, "status_"):
        raise ValueError(
            "The best candidate of this search has listed values only, or there is no best one because refit=False "
            "leaves open which of several scores decides. Search the continuous spaces alone, and name a score in refit."
        )
    best = search.best_params_
    winners = (
        (listed, continuous)
        for grid_listed, continuous in split_all(search.param_grid)
        for listed in ParameterGrid(grid_listed)
        if continuous
        and _alike(best, listed, continuous)
        and all(np.all((real.low <= best[name]) & (best[name] <= real.high)) for name, real in continuous.items())
    )
    listed, continuous = next(winners, (None, None))
    if listed is None or continuous is None:
        raise ValueError(
            f"best_params_ {best} are in no space of param_grid, which must have been changed since: call fit again."
        )
    return Winner(listed, continuous, *last_step(clone(search.estimator).set_params(**clone(listed, safe=False))))


def _alike(params: dict, listed: dict, continuous: dict) -> bool:
    """Whether a candidate has these listed values, compared by `repr`: arrays and estimators have no equality."""
    return {*params} == {*listed, *continuous} and all(repr(params[name]) == repr(listed[name]) for name in listed)


def evaluated(search) -> Evaluated:
    """What a fitted search evaluated within the winning combination of listed values; errors as `winner_of`."""
    winner, trace = winner_of(search), search.trace_
    columns = [(full, r) for name, r in winner.continuous.items() for full in elements(name, r.size)]
    names = [full.removeprefix(winner.prefix) for full, _ in columns]
    reals = [real for _, real in columns]

    candidates = enumerate(search.cv_results_["params"])
    alike = [i for i, params in candidates if _alike(params, winner.listed, winner.continuous)]
    rows = np.flatnonzero(trace["solved"] & np.isin(trace.get("candidate", alike[0]), alike))
    table = {name: np.asarray(column[rows]) for name, column in trace.items()}
    values = np.stack([table[name] for name in names], axis=1)
    _, first, place = np.unique(values, axis=0, return_index=True, return_inverse=True)
    # numbered by the first visit, where `unique` numbers by size
    place = np.argsort(np.argsort(first))[place.ravel()]
    tol = table["tol"]
    visits = [np.flatnonzero(place == p) for p in range(len(first))]
    accurate = np.array([rows[np.argmin(tol[rows])] for rows in visits])

    coarse = tol == tol[0]
    if coarse.all() and search.status_ != "swept":
        # one tolerance for all: a descent from the first point, without starting values
        coarse[1:] = False
    moves = place[(~coarse | (coarse.sum() == 1)) & (table["reason"] != "verification")]
    starts = coarse[np.sort(first)]
    # a descent begins by evaluating its starting value again
    descents = [path for path in np.split(moves, np.flatnonzero(starts[moves])) if len(path)]

    values, criterion = values[accurate], table["criterion"][accurate]
    best = np.concatenate([np.ravel(search.best_params_[name]) for name in winner.continuous])
    distance = np.max(np.abs(to_theta(reals, values) - to_theta(reals, best[None])), axis=1)
    chosen = int(np.argmin(distance))
    verified = tol[accurate] <= tol[accurate][chosen]
    unknown = np.full(len(rows), np.nan)
    return Evaluated(
        names=names,
        reals=reals,
        values=values,
        criterion=criterion,
        gradient=np.stack([table.get(f"d_{name}", unknown) for name in names], axis=1)[accurate],
        splits=np.stack([table[f"split{k}_criterion"] for k in range(search.n_splits_)], axis=1)[accurate],
        starts=starts,
        descents=descents,
        chosen=chosen,
        best=int(np.argmin(np.where(verified, criterion, np.inf))),
        called=search.criterion_,
    )


def swept(search, points: Evaluated, theta, X, y, fit_params) -> np.ndarray:
    """The folds' criteria at given points, by the search itself: (n_points, n_splits), NaN where it could not be solved.

    Parameters
    ----------
    theta : (n_points, n_coordinates), free scale
    """
    winner = winner_of(search)
    sweep = clone(search).set_params(
        param_grid={**{name: [value] for name, value in winner.listed.items()}, **winner.continuous},
        optimizer=Sweep(tuple(map(tuple, theta.tolist()))),
        # an online run has no value at a point: it is shown where its fits would be run to convergence
        method="auto" if search.method == "online" else search.method,
        criterion=search.criterion_,
        refit=False,
        return_estimator=False,
        max_time=None,
        verbose=0,
    )
    # a clone shares the callbacks, and a picture is no fit to be logged
    sweep.set_callbacks()
    with warnings.catch_warnings():
        # that the best of these points is on a bound is no news
        warnings.simplefilter("ignore", BoundaryWarning)
        trace = sweep.fit(X, y, **(fit_params or {})).trace_
    rows = np.stack([trace[name] for name in points.names], axis=1)[:, None]
    same = np.isclose(rows, to_hyper(points.reals, theta), rtol=1e-9, atol=0).all(axis=2) & trace["solved"][:, None]
    splits = np.stack([trace[f"split{k}_criterion"] for k in range(sweep.n_splits_)], axis=1)
    return np.where(same.any(axis=0)[:, None], splits[np.argmax(same, axis=0)], np.nan)

"""A scikit-learn estimator, data and splits become a bilevel problem with one task per fold, and back."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import clone, is_regressor
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_array, validate_data

from skhypergrad.adapters._compat import asks_predictions_only, check_method_params, check_sample_weight
from skhypergrad.adapters.base import Target, lookup
from skhypergrad.adapters.pipeline import Preprocessed, completed, last_step, on_test_rows, preprocess
from skhypergrad.adapters.scaling import Scaled, scaled
from skhypergrad.adapters.scoring import is_accuracy
from skhypergrad.adapters.text import Vectorized, vectorized
from skhypergrad.bilevel.problem import Problem
from skhypergrad.exceptions import NotTunableError


class Routed(NamedTuple):
    """The metadata of one fit: what goes to the estimator's fit and to the scorer."""

    fit: dict
    score: dict


class Cut(NamedTuple):
    """The splits of a task on the device, and the way back.

    Attributes
    ----------
    problem : Problem
    data, axes : as `tune` takes them, a task for each split
    restore : callable, params -> a list with the weights of every split, as `Adapter.write` takes them
    solver, steps : what an unrolled run is made of where nothing else is asked for
    keep : what `data` refers to on the host
    implicit : the hypergradient through the optimum; None for one that takes the Hessian as it comes
    """

    problem: Problem
    data: Any
    axes: Any
    restore: Callable
    solver: Any
    steps: int
    keep: Any = ()
    implicit: Any = None


class Answer(NamedTuple):
    """A fitted estimator, and one that says the same of the split's test rows but transforms them no second time."""

    estimator: Any
    on_test_rows: Any


def check_tunable(estimator, continuous) -> Any:
    """The adapter of an estimator with these continuous hyperparameters, a dict of full name to `Real`.

    Raises
    ------
    NotTunableError
        For a name the engine cannot differentiate, listing those of this very estimator that it can.
    ValueError
        For a name that the estimator does not have.
    """
    prefix, last = last_step(estimator)
    known = estimator.get_params()
    for name in continuous:
        if name not in known:
            raise ValueError(
                f"Invalid parameter {name!r} for estimator {type(estimator).__name__}. {_offer(estimator)}"
            )
    inner = [name.removeprefix(prefix) for name in continuous if name.startswith(prefix)]
    foreign = [name for name in continuous if not name.startswith(prefix)]
    if not foreign:
        adapter = lookup(last)
        foreign = [prefix + name for name in inner if name not in adapter.tunable]
        if not foreign:
            _check_shapes(adapter, last, {name.removeprefix(prefix): real for name, real in continuous.items()})
            return adapter
    owner = type(last).__name__ if not prefix else "this Pipeline"
    raise NotTunableError(
        f"{', '.join(map(repr, foreign))} of {owner} cannot be tuned continuously: the cross-validated loss is not "
        f"differentiable in it, or the search does not know how. {_offer(estimator)}"
    )


def _check_shapes(adapter, estimator, reals) -> None:
    shaped = [name for name, real in reals.items() if real.shape and not adapter.solves]
    if shaped:
        raise NotTunableError(
            f"{shaped[0]} of {type(estimator).__name__} is one number, got a space of shape {reals[shaped[0]].shape}. "
            "skhypergrad's BilevelMLPClassifier and BilevelMLPRegressor have one for each layer, with per_layer=True."
        )


def _offer(estimator) -> str:
    """A sentence on what can be tuned in this estimator."""
    prefix, last = last_step(estimator)
    try:
        tunable = lookup(last).tunable
    except NotTunableError as error:
        return str(error)
    spaces = ", ".join(f"{prefix + name!r}: {example}" for name, example in tunable.items())
    return f"What can be tuned continuously here: {{{spaces}}}. Lists of values work for any parameter."


class Task:
    """One estimator on one set of splits: builds the engine's problem and writes its answers back.

    Parameters
    ----------
    estimator : estimator or Pipeline, with the listed parameters set
    adapter : Adapter of its last step
    X, y : as given to fit
    splits : list of (train, test) index arrays
        Of which the first `n_judged` are folds; one more, if there is one, is all rows: it is fitted for the refit.
    n_judged : int
    routed : Routed
    folds : list of Preprocessed, one per split, or `Scaled`, `Vectorized`, or None to leave X as it is
        With one of the last three there is one table, `X`, and `parts` have no test rows; `shared`, None where X is left as
        it is, has what every split makes of it.
    """

    # the floating types that rows are computed in
    dtypes: ClassVar[Any] = np.float64

    def __init__(self, estimator, adapter, X, y, splits, n_judged: int, routed: Routed, folds):
        _, self.last = last_step(estimator)
        self.adapter, self.y, self.splits, self.n_judged = adapter, y, splits, n_judged
        self.routed, self.raw_X = routed, X
        self.shared: Any = None
        if isinstance(folds, Scaled | Vectorized):
            self.X, y = self._validate(folds.table[0], y)
            self.shared, folds = folds, folds.folds
            self.given = [fold.X_train for fold in folds]
        elif folds is None:
            self.X, y = self._validate(X, y)
            self.given = [X] * len(splits)
            params = [check_method_params(X, routed.fit, indices=train) for train, _ in splits]
            # no copy of the rows that every split trains on
            folds = [Preprocessed(None, None, fit_params, None) for fit_params in params]
        else:
            self.X = None
            self.given = [fold.X_train for fold in folds]
            y = self._validate(folds[0].X_train, _safe_indexing(y, splits[0][0]), whole=y)
            folds = [
                fold._replace(X_train=self._check_rows(fold.X_train), X_test=self._check_rows(fold.X_test))
                for fold in folds
            ]
        self.target: Target = adapter.encode(y)
        self.labels = y
        self.parts = folds

    def _validate(self, X, y, whole=None):
        """The last estimator's own input rules, so that messages read as they always do."""
        multi_output = self.takes_several_targets()
        checked = validate_data(
            clone(self.last),
            X,
            y,
            accept_sparse="csr",
            dtype=self.dtypes,
            multi_output=multi_output,
            y_numeric=multi_output and is_regressor(self.last),
        )
        if whole is None:
            return checked
        return np.asarray(whole)

    def takes_several_targets(self) -> bool:
        return self.last.__sklearn_tags__().target_tags.multi_output

    def _check_rows(self, X):
        return check_array(X, accept_sparse="csr", dtype=self.dtypes, estimator=type(self.last).__name__)

    def cut(self, criterion: str) -> Cut:
        """The splits as tasks of the engine."""
        raise NotImplementedError

    def write(self, estimator, weights, dtype) -> None:
        """Make an unfitted estimator one that predicts, by the weights of one split in the floating type of its rows."""
        raise NotImplementedError

    def train_weight(self, k: int):
        """The weights of the rows that split k is fitted on; None where none were given."""
        fit_params = self.parts[k].fit_params
        unknown = sorted(name for name, value in fit_params.items() if name != "sample_weight" and value is not None)
        if unknown:
            raise TypeError(
                f"The continuous search cannot honour the fit parameter {unknown[0]!r}; only sample_weight is understood."
            )
        weight = fit_params.get("sample_weight")
        return None if weight is None else _checked_weight(weight, self.splits[k][0])

    def test_weight(self, k: int) -> np.ndarray:
        """The weights of the rows that split k is judged on."""
        test = self.splits[k][1]
        weight = None
        if k < self.n_judged:
            weight = check_method_params(self.raw_X, self.routed.score, indices=test).get("sample_weight")
        return np.ones(len(test)) if weight is None else _checked_weight(weight, test)

    def n_features(self, k: int) -> int:
        """What the last step of split k sees."""
        return (self.parts[k].X_train if self.X is None else self.X).shape[1]

    def test_rows(self, k: int):
        """The held-out rows of split k as its last step sees them."""
        test = self.splits[k][1]
        if self.shared is not None:
            return self.shared.rows(k, test)
        return self.parts[k].X_test if self.X is None else self.X[test]

    def share(self) -> np.ndarray:
        """What the criterion of every split counts, with mean one; nothing where it is only fitted."""
        n_splits = len(self.splits)
        return np.where(np.arange(n_splits) < self.n_judged, n_splits / self.n_judged, 0.0)

    def estimators(self, weights, hyper, given=None) -> list[Any]:
        """One fitted scikit-learn estimator per split, from what `Cut.restore` returns, with `hyper` as its parameters.

        `given` is what each of them was given, for its type and the names of its features; None for what the last step is.
        """
        given = given or self.given
        unfitted = clone(self.last).set_params(**hyper)
        return [
            self._fitted(_told(copy.copy(unfitted), rows), own, rows) for own, rows in zip(weights, given, strict=True)
        ]

    def _fitted(self, estimator, weights, rows):
        """An unfitted estimator, made one that predicts."""
        self.write(estimator, weights, np.float32 if getattr(rows, "dtype", None) == np.float32 else np.float64)
        return estimator

    @functools.cached_property
    def _judged(self) -> list[tuple]:
        """What scorers need of every fold, whatever the weights: an unfitted estimator, targets, parameters."""
        unfitted = clone(self.last)
        return [
            (
                _told(copy.copy(unfitted), rows),
                _safe_indexing(self.y, test),
                check_method_params(self.raw_X, self.routed.score, indices=test),
            )
            for rows, (_, test) in zip(self.given, self.splits[: self.n_judged], strict=False)
        ]

    @functools.cached_property
    def _held_out(self) -> list:
        """The test rows of every fold."""
        return [self.test_rows(k) for k in range(self.n_judged)]

    @functools.cached_property
    def _label_numbers(self) -> np.ndarray:
        """The number of every row's label among the classes."""
        return np.searchsorted(np.asarray(self.target.classes), self.labels)

    def knows_labels(self) -> bool:
        """Whether `predicted_labels` does what the estimator's `predict` does."""
        return False

    def predicted_labels(self, weights, X) -> np.ndarray:
        """The numbers of the classes that a split's weights predict for rows as its last step sees them."""
        raise NotImplementedError

    def answers(self, weights, hyper) -> list[Answer]:
        """What `fit` on every split's training rows would have made of the whole estimator, pipeline included."""
        fitted = self.estimators(weights, hyper)
        whole = [completed(part.pipeline, estimator) for part, estimator in zip(self.parts, fitted, strict=True)]
        if isinstance(self.shared, Scaled):
            recalling = [Pipeline([("estimator", estimator)]) for estimator in self.unscaled(weights, hyper)]
        elif isinstance(self.shared, Vectorized):
            recalling = [self.shared.on_test_rows(k, self.splits[k][1], e) for k, e in enumerate(fitted)]
        else:
            recalling = [on_test_rows(part, estimator) for part, estimator in zip(self.parts, fitted, strict=True)]
        return list(map(Answer, whole, recalling))

    def unscaled(self, weights, hyper) -> list[Any]:
        """Fitted estimators whose weights apply to the rows as they were given, where these are only scaled."""
        raise NotImplementedError

    def scores(self, scorer, weights) -> np.ndarray:
        """The scorer's value on every fold, with the fold's own solution.

        A scorer made by scikit-learn sees the last step and its preprocessed rows; any other callable sees the whole
        pipeline and the rows as they were given.
        """
        whole, scores = not asks_predictions_only(scorer), []
        plain = self.knows_labels() and is_accuracy(scorer, self.last)
        for k, (unfitted, y, params) in enumerate(self._judged):
            if plain and params.keys() <= {"sample_weight"}:
                right = self.predicted_labels(weights[k], self._held_out[k]) == self._label_numbers[self.splits[k][1]]
                scores.append(np.average(right, weights=params.get("sample_weight")))
                continue
            estimator = self._fitted(copy.copy(unfitted), weights[k], self.given[k])
            if whole:
                estimator = completed(self.parts[k].pipeline, estimator)
                scores.append(scorer(estimator, _safe_indexing(self.raw_X, self.splits[k][1]), y, **params))
            else:
                scores.append(scorer(estimator, self._held_out[k], y, **params))
        return np.array(scores)


def _told(estimator, rows):
    """The estimator, told the number and the names of the features."""
    validate_data(estimator, rows, skip_check_array=True)
    return estimator


def prepare(
    estimator, X, y, splits, routed: Routed, n_jobs, *, linear: bool = False, recalls: bool = False
) -> list[Preprocessed] | Scaled | Vectorized | None:
    """The folds as the last step of a pipeline sees them; None for an estimator that sees X itself.

    For `linear` models what scalers do need not be done: they take it up in their coefficients. Where estimators of a fold
    will be asked of nothing but its test rows (`recalls`), there need be no vectoriser for each.
    """
    if type(estimator) is not Pipeline:
        return None
    found: Any = scaled(estimator, X, y, splits, routed.fit) if linear else None
    if found is None and linear and recalls:
        found = vectorized(estimator, X, y, splits, routed.fit)
    return preprocess(estimator, X, y, splits, routed.fit, n_jobs) if found is None else found


def check_weights(k: int, train_weight, test_weight) -> None:
    """Refuse split k when there is nothing to fit or to judge it by."""
    for name, weight in (("training", train_weight), ("held-out", test_weight)):
        if not np.sum(weight) > 0:
            raise ValueError(
                f"All sample weights of the {name} rows of split {k} are zero. "
                "Leave the split out, or give at least one row of it a positive weight."
            )


def _checked_weight(weight, rows):
    # a split of zeros is refused later, by its number
    return check_sample_weight(weight, rows, dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=True)

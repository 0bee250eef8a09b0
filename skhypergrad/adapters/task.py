"""A scikit-learn estimator, data and splits become a bilevel problem with one task per fold, and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_array, validate_data

from skhypergrad.adapters._compat import asks_predictions_only, check_method_params, check_sample_weight
from skhypergrad.adapters.base import Adapter, Target, lookup
from skhypergrad.adapters.pipeline import Preprocessed, completed, last_step, on_test_rows, preprocess
from skhypergrad.adapters.scoring import CRITERIA
from skhypergrad.bilevel import losses
from skhypergrad.bilevel.folds import Folds, Parts, Table, cut
from skhypergrad.bilevel.models import LinearModel, held_out
from skhypergrad.bilevel.problem import Problem
from skhypergrad.exceptions import NotTunableError

# A sparse matrix is stored densely below this many cells in all folds (64 MiB): products and rotations are faster there.
DENSE_CELLS = 1 << 23


class Routed(NamedTuple):
    """The metadata of one fit: what goes to the estimator's fit and to the scorer."""

    fit: dict
    score: dict


class Answer(NamedTuple):
    """A fitted estimator, and one that says the same of the split's test rows but transforms them no second time."""

    estimator: Any
    on_test_rows: Any


def check_tunable(estimator, names) -> Adapter:
    """The adapter of an estimator whose continuous hyperparameters are `names`.

    Raises
    ------
    NotTunableError
        For a name the engine cannot differentiate, listing those of this very estimator that it can.
    ValueError
        For a name that the estimator does not have.
    """
    prefix, last = last_step(estimator)
    known = estimator.get_params()
    for name in names:
        if name not in known:
            raise ValueError(
                f"Invalid parameter {name!r} for estimator {type(estimator).__name__}. {_offer(estimator)}"
            )
    inner = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    foreign = [name for name in names if not name.startswith(prefix)]
    if not foreign:
        adapter = lookup(last)
        foreign = [prefix + name for name in inner if name not in adapter.tunable]
        if not foreign:
            return adapter
    owner = type(last).__name__ if not prefix else "this Pipeline"
    raise NotTunableError(
        f"{', '.join(map(repr, foreign))} of {owner} cannot be tuned continuously: the cross-validated loss is not "
        f"differentiable in it, or the search does not know how. {_offer(estimator)}"
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
    folds : list of Preprocessed, one per split, or None to leave X as it is
    """

    def __init__(self, estimator, adapter: Adapter, X, y, splits, n_judged: int, routed: Routed, folds):
        _, self.last = last_step(estimator)
        self.adapter, self.y, self.splits, self.n_judged = adapter, y, splits, n_judged
        self.routed, self.raw_X = routed, X
        if folds is None:
            self.X, y = self._validate(X, y)
            self.given = [X] * len(splits)
            params = [check_method_params(X, routed.fit, indices=train) for train, _ in splits]
            folds = [
                Preprocessed(self.X[train], self.X[test], fit_params, None)
                for (train, test), fit_params in zip(splits, params, strict=True)
            ]
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
        self.fit_intercept = adapter.fit_intercept

    def _validate(self, X, y, whole=None):
        """The last estimator's own input rules, so that messages read as they always do."""
        multi_output = self.target_is_multi_output()
        checked = validate_data(
            clone(self.last),
            X,
            y,
            accept_sparse="csr",
            dtype=np.float64,
            multi_output=multi_output,
            y_numeric=multi_output and not hasattr(self.last, "class_weight"),
        )
        if whole is None:
            return checked
        return np.asarray(whole)

    def target_is_multi_output(self) -> bool:
        return self.last.__sklearn_tags__().target_tags.multi_output

    def _check_rows(self, X):
        return check_array(X, accept_sparse="csr", dtype=np.float64, estimator=type(self.last).__name__)

    def cut(self, criterion: str) -> tuple[Folds, Problem]:
        """The folds on the device and the problem they are the tasks of."""
        adapter, target = self.adapter, self.target
        squared = target.loss is losses.squared
        with jax.enable_x64(True):
            folds = cut(self.table(), squared=squared, fit_intercept=self.fit_intercept)
        model = LinearModel(target.loss, adapter.strength, folds.fit_intercept)
        self.learning_rate = model.learning_rate(target.y.shape[1])
        return folds, held_out(model, CRITERIA[criterion])

    def table(self) -> Table:
        """What the folds are cut from."""
        n, k = len(self.labels), len(self.splits)
        train_weight, test_weight = np.zeros((k, n)), np.zeros((k, n))
        for i, ((train, test), part) in enumerate(zip(self.splits, self.parts, strict=True)):
            weight = self._sample_weight(part.fit_params, part.X_train)
            np.add.at(train_weight[i], train, self.adapter.train_weight(_safe_indexing(self.labels, train), weight))
            score = None
            if i < self.n_judged:
                score = check_method_params(self.raw_X, self.routed.score, indices=test).get("sample_weight")
            score = np.ones(len(test)) if score is None else _checked_weight(score, part.X_test)
            np.add.at(test_weight[i], test, score)
            for name, total in (("training", train_weight[i].sum()), ("held-out", test_weight[i].sum())):
                if not total > 0:
                    raise ValueError(
                        f"All sample weights of the {name} rows of split {i} are zero. "
                        "Leave the split out, or give at least one row of it a positive weight."
                    )
        self.offset = self._offset(train_weight)
        share = np.where(np.arange(k) < self.n_judged, k / self.n_judged, 0.0)
        return Table(self._matrices(), self.target.y, train_weight, test_weight, self.offset, share)

    def _sample_weight(self, fit_params, X):
        unknown = sorted(name for name, value in fit_params.items() if name != "sample_weight" and value is not None)
        if unknown:
            raise TypeError(
                f"The continuous search cannot honour the fit parameter {unknown[0]!r}; only sample_weight is understood."
            )
        weight = fit_params.get("sample_weight")
        if weight is None:
            return None
        return _checked_weight(weight, X)

    def _offset(self, train_weight):
        """Log eps for a class without training rows, as `log_loss` would clip its probability; 0 otherwise."""
        y, loss = self.target.y, self.target.loss
        if loss is losses.squared:
            return np.zeros((len(train_weight), y.shape[1]))
        floor = np.log(np.finfo(float).eps)
        present = train_weight @ y > 0
        if loss is losses.multinomial:
            return np.where(present, 0.0, floor)
        other = train_weight @ (1 - y) > 0
        return np.where(present, 0.0, floor) - np.where(other, 0.0, floor)

    def _matrices(self):
        n, k = len(self.labels), len(self.splits)
        if self.X is not None:
            return self.X.toarray() if _small(self.X, 1) else self.X
        parts = [(part.X_train, part.X_test) for part in self.parts]
        dense = all(_small(m, k * n / max(m.shape[0], 1)) for pair in parts for m in pair)
        tables: list[Any] = []
        for (train, test), (X_train, X_test) in zip(self.splits, parts, strict=True):
            if dense or not scipy.sparse.issparse(X_train):
                tables.append(Parts(n, ((train, _array(X_train)), (test, _array(X_test)))))
            else:
                tables.append(_scattered(X_train, train, n) + _scattered(X_test, test, n))
        return tables

    def estimators(self, coef, intercept, hyper=None) -> list[Any]:
        """One fitted scikit-learn estimator per split, from the engine's coefficients, with `hyper` as its parameters."""
        fitted = []
        for k, given in enumerate(self.given):
            estimator = clone(self.last).set_params(**(hyper or {}))
            dtype = np.float32 if getattr(given, "dtype", None) == np.float32 else np.float64
            features = self.parts[k].X_train.shape[1]
            weights, bias = coef[k][:features].astype(dtype), (intercept[k] + self.offset[k]).astype(dtype)
            self.adapter.write(estimator, weights, bias, self.target, self.labels)
            # the number and the names of the features
            validate_data(estimator, given, skip_check_array=True)
            fitted.append(estimator)
        return fitted

    def answers(self, coef, intercept, hyper) -> list[Answer]:
        """What `fit` on every split's training rows would have made of the whole estimator, pipeline included."""
        fitted = self.estimators(coef, intercept, hyper)
        return [
            Answer(completed(part.pipeline, e), on_test_rows(part, e))
            for part, e in zip(self.parts, fitted, strict=True)
        ]

    def scores(self, scorer, coef, intercept) -> np.ndarray:
        """The scorer's value on every fold, with the fold's own solution.

        A scorer made by scikit-learn sees the last step and its preprocessed rows; any other callable sees the whole
        pipeline and the rows as they were given.
        """
        whole = not asks_predictions_only(scorer)
        fitted, scores = self.estimators(coef, intercept), []
        for k, (_, test) in enumerate(self.splits[: self.n_judged]):
            params = check_method_params(self.raw_X, self.routed.score, indices=test)
            y, part = _safe_indexing(self.y, test), self.parts[k]
            if whole:
                scores.append(
                    scorer(completed(part.pipeline, fitted[k]), _safe_indexing(self.raw_X, test), y, **params)
                )
            else:
                scores.append(scorer(fitted[k], part.X_test, y, **params))
        return np.array(scores)


def prepare(estimator, X, y, splits, routed: Routed, n_jobs) -> list[Preprocessed] | None:
    """The folds as the last step of a pipeline sees them; None for an estimator that sees X itself."""
    if type(estimator) is not Pipeline:
        return None
    return preprocess(estimator, X, y, splits, routed.fit, n_jobs)


def _checked_weight(weight, X):
    # a split of zeros is refused later, by its number
    return check_sample_weight(weight, X, dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=True)


def _small(X, copies) -> bool:
    return scipy.sparse.issparse(X) and copies * X.shape[0] * X.shape[1] <= DENSE_CELLS


def _array(X):
    return X.toarray() if scipy.sparse.issparse(X) else X


def _scattered(X, rows, n):
    """The rows of X at their places among n, as CSR."""
    X = scipy.sparse.coo_array(X)
    return scipy.sparse.csr_array((X.data, (np.asarray(rows)[X.row], X.col)), shape=(n, X.shape[1]))

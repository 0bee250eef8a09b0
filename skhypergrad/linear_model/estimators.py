"""Linear models that tune their own penalties: one for all features, one for each feature, or one for each group."""

from __future__ import annotations

import warnings
from numbers import Integral
from numbers import Real as RealNumber
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.callback import with_callbacks
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from skhypergrad.adapters._compat import Interval, StrOptions, check_sample_weight
from skhypergrad.prediction import FromRaw
from skhypergrad.steps import TellsSteps

# Rows for each hyperparameter above which "auto" expects no over-fitting of the held-out rows.
PLENTY = 100

# The names of `HypergradSearchCV` that make sense here; what they stand for is imported in `fit`, so that a fitted model
# predicts where there is no JAX.
METHODS = {"auto", "implicit", "reverse", "forward"}
OPTIMIZERS = {"auto", "lbfgsb", "hoag", "adam"}

# Bounds of tuned class weights, relative to each other.
CLASS_WEIGHTS = (1e-2, 1e2)


class _TunesItself(TellsSteps, BaseEstimator):
    """What both models share: from parameters to the bilevel problem, and its answer to attributes."""

    _parameter_constraints: ClassVar[dict] = {
        "groups": [None, StrOptions({"features"}), "array-like"],
        "bounds": [tuple, list],
        "shrinkage": [None, StrOptions({"auto"}), Interval(RealNumber, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "method": [StrOptions(METHODS), object],
        "optimizer": [StrOptions(OPTIMIZERS), object],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(RealNumber, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def _fit(self, X, y, sample_weight, stand_in, name, criterion):
        """Tune, fit, and set what both models have in common.

        `interrupt` of what is returned is to be raised once the rest is set.
        """
        from skhypergrad.bilevel.space import Real
        from skhypergrad.linear_model.setting import Setting

        groups = _checked_groups(self.groups, X.shape[1])
        low, high = _checked_bounds(self.bounds)
        Real(low, high).check(name)
        init = np.clip(getattr(self, name), low, high)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        with self._told(X, y) as told:
            setting = Setting(
                stand_in=stand_in,
                name=name,
                X=X,
                y=y,
                sample_weight=sample_weight,
                splits=self._splits(X, y),
                groups=groups,
                real=Real(low, high, init=init),
                class_weights=self._class_weights(y),
                criterion=criterion,
                shrinkage=self._shrinkage(groups, len(y)),
                method=self.method,
                optimizer=self.optimizer,
                max_steps=self.max_iter,
                tol=self.tol,
                seed=0 if self.random_state is None else check_random_state(self.random_state).randint(2**31 - 1),
                callback=told,
            )
            tuned = setting.tune()
        self.trace_, self.status_, self.n_iter_ = tuned.trace, tuned.status.name, len(tuned.trace["criterion"])
        self.criterion_, self.shrinkage_ = tuned.criterion, tuned.shrinkage
        setattr(self, f"{name}_", tuned.hyper[name])
        for message, category in tuned.warnings:
            warnings.warn(message, category, stacklevel=3)
        return tuned

    def _splits(self, X, y):
        """Index arrays (train, test) of every fold; None for leave-one-out in closed form."""
        if isinstance(self.cv, str):
            return None
        cv = check_cv(self.cv, y, classifier=isinstance(self, ClassifierMixin))
        return [(np.asarray(train), np.asarray(test)) for train, test in cv.split(X, y)]

    def _class_weights(self, y):
        return None

    def _shrinkage(self, groups, n_samples):
        """The strength of the guard; None where it is to be found."""
        if groups is None:
            return 0.0
        if self.shrinkage == "auto":
            return 0.0 if n_samples >= PLENTY * (groups.max() + 1) else None
        return float(self.shrinkage or 0.0)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _raw(self, X):
        check_is_fitted(self, "coef_")
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        return safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_


class BilevelRidge(RegressorMixin, _TunesItself):
    """Ridge regression that tunes its penalties: one, one for each feature, or one for each group of features.

        minimise over w   sum_i s_i (y_i - x_i w - b)**2 + sum_j alpha_group(j) w_j**2

    as in `sklearn.linear_model.Ridge`, where alpha follows the derivative of the squared error of held-out rows.

    Parameters
    ----------
    alpha : float or array-like of shape (n_groups,), default=1.0
        Where the search begins, moved into the bounds; penalties are those of a sum over the rows. With the guard of many
        penalties all begin at the best common one, for which the search begins at their geometric mean.
    groups : None, "features" or array-like of shape (n_features,), default=None
        None for one penalty, "features" for one each; integers 0, 1, ..., n_groups - 1 say to which group a feature belongs.
    bounds : (low, high), default=(1e-6, 1e6)
        Of every penalty. At the upper one a feature plays next to no part. With the guard they are those of the common
        penalty, from which the others deviate by a factor of high / low at most.
    cv : int, splitter, iterable of splits or "loo", default=5
        As in `RidgeCV`. "loo" is leave-one-out in closed form; a row of weight two is left out as the two it stands for.
    shrinkage : "auto", float or None, default="auto"
        The guard against over-fitting the held-out rows with many penalties: each may leave the common one, which is free,
        at a price for every natural-log unit. `shrinkage` is that price in units of the largest derivative of the criterion
        by a log penalty, at the best common one: from 1 on all stay together. "auto" chooses among 1, 0.7, ..., 0.01 by
        cross-fitting: for every fold the penalties are tuned on all others, and judged on this one; the largest price within
        one standard error of the best is taken. With 100 rows or more for a penalty it is 0. None or 0: no guard.
    fit_intercept : bool, default=True
    method, optimizer
        As in `HypergradSearchCV`, without "online".
    max_iter : int, default=100
        Evaluations of the criterion, after the starting values.
    tol : float, default=1e-4
        The search has converged when the projected hypergradient, per natural-log unit of each penalty, is at most `tol`
        times the criterion.
    random_state : int, RandomState instance or None, default=None
        Of starting points off the diagonal, for optimizers that have them.

    Attributes
    ----------
    alpha_ : float, or ndarray of shape (n_groups,)
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
    intercept_ : float or ndarray of shape (n_targets,)
        Of the fit to all rows with `alpha_`.
    criterion_ : float
        Mean squared error on held-out rows at `alpha_`, in squared units of the target, mean of folds and targets, without
        the guard's share. The penalties were chosen by it: with many of them it is too small to be an estimate.
    shrinkage_ : float
        The price that was used: 1 where the common penalty was the best, 0 without the guard.
    trace_ : dict of ndarray
        A row for every evaluation of the last descent, as in `HypergradSearchCV`; for up to 20 penalties with their values.
    status_ : str
        How it ended; one of the names of `skhypergrad.bilevel.Status`.
    n_iter_ : int
        Evaluations of the last descent.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Raises
    ------
    ValueError
        At fit, for groups of another length than the features, or not integers, or with a number left out; for unusable
        bounds or data.
    KeyboardInterrupt
        On Ctrl-C, with the model fitted at the best penalties so far, if there are any.

    Warns
    -----
    BoundaryWarning
        When a single penalty ends on a bound. That some of many do is in the nature of things.
    ConvergenceWarning
        When the search ended before `tol` was reached.

    Notes
    -----
    Callbacks of scikit-learn (`set_callbacks`) are told of every evaluation, as a task "outer-step" within "fit"; one that
    returns True ends the search, and the model is fitted at the best penalties so far.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from skhypergrad import BilevelRidge
    >>> X, y = make_regression(60, 40, n_informative=3, noise=5.0, random_state=0)
    >>> round(float(BilevelRidge(groups="features").fit(X, y).score(X, y)), 2)
    1.0
    """

    _parameter_constraints: ClassVar[dict] = {
        **_TunesItself._parameter_constraints,
        "alpha": [Interval(RealNumber, 0, None, closed="neither"), "array-like"],
        "cv": ["cv_object", StrOptions({"loo"})],
    }

    def __init__(
        self,
        alpha=1.0,
        *,
        groups=None,
        bounds=(1e-6, 1e6),
        cv=5,
        shrinkage="auto",
        fit_intercept=True,
        method="auto",
        optimizer="auto",
        max_iter=100,
        tol=1e-4,
        random_state=None,
    ):
        self.alpha = alpha
        self.groups = groups
        self.bounds = bounds
        self.cv = cv
        self.shrinkage = shrinkage
        self.fit_intercept = fit_intercept
        self.method = method
        self.optimizer = optimizer
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    @with_callbacks
    def fit(self, X, y, sample_weight=None):
        """Tune the penalties, and fit the coefficients to all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), default=None
            In the fits and in the criterion.

        Returns
        -------
        self
        """
        self._validate_params()
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        tuned = self._fit(X, y, sample_weight, Ridge(fit_intercept=self.fit_intercept), "alpha", "squared_error")
        flat = y.ndim == 1
        self.coef_ = tuned.coef[:, 0] if flat else tuned.coef.T
        self.intercept_ = float(tuned.intercept[0]) if flat else tuned.intercept
        if tuned.interrupt is not None:
            raise tuned.interrupt
        return self

    def predict(self, X):
        """Predicted targets, (n_samples,) or (n_samples, n_targets)."""
        return self._raw(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class BilevelLogisticRegression(FromRaw, ClassifierMixin, _TunesItself):
    """Logistic regression that tunes its penalties, and on request the weights of its classes.

        minimise over w   sum_i s_i log_loss_i + sum_j w_j**2 / (2 C_group(j))

    as in `sklearn.linear_model.LogisticRegression`, where C follows the derivative of the log loss of held-out rows; two
    classes or several (multinomial).

    Parameters
    ----------
    C : float or array-like of shape (n_groups,), default=1.0
        Where the search begins: inverse penalties, of a sum over the rows.
    groups : None, "features" or array-like of shape (n_features,), default=None
        As in `BilevelRidge`.
    class_weight : None, "balanced", dict or "tune", default=None
        As in `LogisticRegression`. "tune" makes the weight of every class a hyperparameter, and the log loss that is
        descended is that of balanced classes: each as important as the others, however rare.
    bounds : (low, high), default=(1e-4, 1e4)
        Of every C. At the lower one a feature plays next to no part.
    cv : int, splitter or iterable of splits, default=5
        As in `LogisticRegressionCV`.
    shrinkage, fit_intercept, method, optimizer, max_iter, tol, random_state
        As in `BilevelRidge`.

    Attributes
    ----------
    C_ : float, or ndarray of shape (n_groups,)
    class_weight_ : ndarray of shape (n_classes,)
        With `class_weight="tune"`, in the order of `classes_`: the mean weight of the training rows is one.
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray of shape (1,) or (n_classes,)
    criterion_ : float
        Log loss of held-out rows in nats, mean of the folds.
    shrinkage_, trace_, status_, n_iter_, n_features_in_, feature_names_in_
        As in `BilevelRidge`.

    Raises
    ------
    ValueError
        As in `BilevelRidge`, and for a target of one class.
    KeyboardInterrupt
        As in `BilevelRidge`.

    Warns
    -----
    BoundaryWarning, ConvergenceWarning
        As in `BilevelRidge`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skhypergrad import BilevelLogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BilevelLogisticRegression(groups="features").fit(X, y)
    >>> model.C_.shape, model.predict_proba(X).shape
    ((4,), (150, 3))
    """

    _parameter_constraints: ClassVar[dict] = {
        **_TunesItself._parameter_constraints,
        "C": [Interval(RealNumber, 0, None, closed="neither"), "array-like"],
        "class_weight": [None, StrOptions({"balanced", "tune"}), dict],
        "cv": ["cv_object"],
    }

    def __init__(
        self,
        C=1.0,
        *,
        groups=None,
        class_weight=None,
        bounds=(1e-4, 1e4),
        cv=5,
        shrinkage="auto",
        fit_intercept=True,
        method="auto",
        optimizer="auto",
        max_iter=100,
        tol=1e-4,
        random_state=None,
    ):
        self.C = C
        self.groups = groups
        self.class_weight = class_weight
        self.bounds = bounds
        self.cv = cv
        self.shrinkage = shrinkage
        self.fit_intercept = fit_intercept
        self.method = method
        self.optimizer = optimizer
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    @with_callbacks
    def fit(self, X, y, sample_weight=None):
        """Tune the penalties and class weights, and fit the coefficients to all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None
            In the fits and in the criterion.

        Returns
        -------
        self
        """
        self._validate_params()
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64, ensure_min_samples=2)
        weight = None if isinstance(self.class_weight, str) and self.class_weight == "tune" else self.class_weight
        stand_in = LogisticRegression(fit_intercept=self.fit_intercept, class_weight=weight)
        tuned = self._fit(X, y, sample_weight, stand_in, "C", "log_loss")
        self.classes_ = tuned.classes
        self.coef_ = tuned.coef.T
        self.intercept_ = tuned.intercept - tuned.intercept.mean() if len(self.classes_) > 2 else tuned.intercept
        if "class_weight" in tuned.hyper:
            share = np.array([np.mean(y == label) for label in self.classes_])
            self.class_weight_ = tuned.hyper["class_weight"] / (share @ tuned.hyper["class_weight"])
        if tuned.interrupt is not None:
            raise tuned.interrupt
        return self

    def _class_weights(self, y):
        if not (isinstance(self.class_weight, str) and self.class_weight == "tune"):
            return None
        from skhypergrad.bilevel.space import Real

        balanced = compute_class_weight("balanced", classes=np.unique(y), y=y)
        return Real(*CLASS_WEIGHTS, shape=balanced.shape, init=np.clip(balanced, *CLASS_WEIGHTS))


def _checked_groups(groups, n_features):
    """The group of every feature, int32; None for one penalty."""
    if groups is None:
        return None
    if isinstance(groups, str):
        return np.arange(n_features, dtype=np.int32)
    groups = np.asarray(groups)
    if groups.shape != (n_features,):
        raise ValueError(f"groups must name a group for each of the {n_features} features, got shape {groups.shape}.")
    if not np.issubdtype(groups.dtype, np.integer):
        raise ValueError(
            f"groups must be integers, got dtype {groups.dtype}; np.unique(groups, return_inverse=True)[1] makes "
            "integers of names."
        )
    count = np.bincount(groups - min(groups.min(), 0))
    if groups.min() != 0 or not count.all():
        raise ValueError(
            f"groups must be 0, 1, ..., n_groups - 1, each with a feature; {_missing(groups)}. "
            "np.unique(groups, return_inverse=True)[1] numbers them so."
        )
    return groups.astype(np.int32)


def _missing(groups) -> str:
    if groups.min() < 0:
        return f"{groups.min()} is negative"
    (empty,) = np.nonzero(np.bincount(groups) == 0)
    return f"there is no feature in group {', '.join(map(str, empty[:5]))}"


def _checked_bounds(bounds):
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        raise ValueError(f"bounds must be two numbers, low and high, got {bounds!r}.") from None
    return low, high

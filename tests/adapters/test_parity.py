"""Fitting by the engine is fitting by scikit-learn, and its hypergradient is the derivative of scikit-learn's scores."""

import warnings

import catalogue
import jax
import numpy as np
import pytest
import scipy.sparse
from sklearn import metrics
from sklearn.base import clone
from sklearn.model_selection import KFold

from skhypergrad.adapters import lookup, registered
from skhypergrad.adapters.linear_task import LinearTask
from skhypergrad.adapters.scoring import CRITERIA
from skhypergrad.adapters.task import Routed
from skhypergrad.bilevel import Implicit
from skhypergrad.bilevel.tune import _start, _step

N, P = 60, 7


def make_data(target, sparse):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(N, P)) * [1, 2, 0.5, 1, 3, 1, 1] + 0.3
    X[rng.random((N, P)) < 0.3] = 0.0
    raw = X @ rng.normal(size=(P, 3)) + rng.normal(size=(N, 3))
    y = {
        "continuous": raw[:, 0] + 5,
        "continuous-multioutput": raw[:, :2] + 5,
        "binary": (raw[:, 0] > 0).astype(int),
        "multiclass": raw.argmax(axis=1),
    }[target]
    return (scipy.sparse.csr_array(X) if sparse else X), y


def make_weights(weighted):
    return {"sample_weight": np.random.default_rng(5).integers(0, 4, N) / 2 + 0.0} if weighted else {}


def build(case, sparse, weighted, intercept, monkeypatch, criterion):
    if sparse:  # keep small matrices sparse, so that the sparse path is what is tested
        monkeypatch.setattr("skhypergrad.adapters.linear_task.DENSE_CELLS", 0)
    X, y = make_data(case.target, sparse)
    weights = make_weights(weighted)
    estimator = clone(case.estimator).set_params(fit_intercept=intercept, **(case.sparse_solver if sparse else {}))
    splits = list(KFold(4, shuffle=True, random_state=0).split(X))
    task = LinearTask(estimator, lookup(estimator), X, y, splits, len(splits), Routed(weights, weights), None)
    cut = task.cut(criterion)
    return estimator, X, y, weights, splits, cut, cut.problem


def solve(problem, folds, hyper, method=None):
    with jax.enable_x64(True):
        method = Implicit(tol=1e-12) if method is None else method
        hyper = {name: np.asarray(value, float) for name, value in hyper.items()}
        carry = _start(problem, folds.axes, method, hyper, folds.data)
        value, gradient, carry = _step(problem, folds.axes, method, hyper, folds.data, carry, np.float64(method.tol))
        return float(value), {k: np.array(v) for k, v in gradient.items()}, carry


def fitted(estimator, hyper, X, y, weights, splits):
    for train, test in splits:
        part = {k: v[train] for k, v in weights.items()}
        with warnings.catch_warnings():
            # scikit-learn's solvers are asked for more than they can tell they have reached
            warnings.simplefilter("ignore")
            yield clone(estimator).set_params(**hyper).fit(X[train], y[train], **part), test


def loss_of(name, model, X, y, weights, test):
    part = {k: v[test] for k, v in weights.items()}
    if name in ("log_loss", "brier"):
        probability = model.predict_proba(X[test])
        labels = model.classes_
        if name == "brier":
            probability = probability[:, 1] if len(labels) == 2 else probability
            return metrics.brier_score_loss(y[test], probability, labels=labels, **part)
        return metrics.log_loss(y[test], probability, labels=labels, **part)
    if hasattr(model, "decision_function"):
        raw, target = model.decision_function(X[test]), 2.0 * (y[test][:, None] == model.classes_) - 1
        target = target[:, 1] if raw.ndim == 1 else target
    else:
        raw, target = model.predict(X[test]), y[test]
    if name == "r2":
        return -metrics.r2_score(target, raw, **part)
    metric = {"squared_error": metrics.mean_squared_error, "root_squared_error": metrics.root_mean_squared_error}[name]
    return metric(target, raw, **part)


def cross_validated(name, estimator, hyper, X, y, weights, splits):
    return np.mean(
        [loss_of(name, m, X, y, weights, test) for m, test in fitted(estimator, hyper, X, y, weights, splits)]
    )


SETTINGS = pytest.mark.parametrize(
    ("sparse", "weighted", "intercept"),
    [(s, w, i) for s in (False, True) for w in (False, True) for i in (False, True)],
    ids=lambda flag: str(int(flag)),
)


@SETTINGS
@pytest.mark.parametrize("case", catalogue.ADAPTED, ids=catalogue.name)
def test_fold_solutions_are_scikit_learns(case, sparse, weighted, intercept, monkeypatch):
    criterion = lookup(case.estimator).criteria[0]
    estimator, X, y, weights, splits, folds, problem = build(case, sparse, weighted, intercept, monkeypatch, criterion)
    value, _, carry = solve(problem, folds, case.hyper)
    coef, bias = zip(*folds.restore(jax.tree.map(np.array, carry.params)), strict=True)
    models = [model for model, _ in fitted(estimator, case.hyper, X, y, weights, splits)]
    for k, model in enumerate(models):
        oracle = np.atleast_2d(model.coef_).T
        centred = bias[k] - bias[k].mean() if case.target == "multiclass" and "Logistic" in case.name else bias[k]
        assert np.abs(coef[k] - oracle).max() <= 1e-6 * np.abs(oracle).max()
        np.testing.assert_allclose(centred, np.broadcast_to(model.intercept_, centred.shape), rtol=1e-6, atol=1e-6)
    oracle = cross_validated(criterion, estimator, case.hyper, X, y, weights, splits)
    assert value == pytest.approx(oracle, rel=1e-6)


@SETTINGS
@pytest.mark.parametrize("case", catalogue.ADAPTED, ids=catalogue.name)
def test_hypergradient_is_the_difference_of_scikit_learns_scores(case, sparse, weighted, intercept, monkeypatch):
    for criterion in lookup(case.estimator).criteria:
        parts = build(case, sparse, weighted, intercept, monkeypatch, criterion)
        estimator, X, y, weights, splits, folds, problem = parts
        _, gradient, _ = solve(problem, folds, case.hyper)
        for name, at in case.hyper.items():
            for index in np.ndindex(np.shape(at)):
                # five points along log(hyper): the error is of fourth order in the step
                values = {}
                for shift in (-2, -1, 1, 2):
                    moved = np.array(at, float)
                    moved[index] *= np.exp(1e-2 * shift)
                    hyper = {name: moved if moved.ndim else float(moved)}
                    values[shift] = cross_validated(criterion, estimator, hyper, X, y, weights, splits)
                slope = (values[-2] - 8 * values[-1] + 8 * values[1] - values[2]) / 12e-2
                ours = gradient[name][index] * np.asarray(at)[index]
                assert ours == pytest.approx(slope, rel=1e-5, abs=1e-9), criterion


def test_every_registered_estimator_is_in_the_catalogue():
    networks = {type(case) for case in catalogue.NETWORKS}
    assert {type(case.estimator) for case in catalogue.ADAPTED} | networks == set(registered())


def test_every_criterion_is_some_estimators():
    assert {name for case in catalogue.ADAPTED for name in lookup(case.estimator).criteria} == set(CRITERIA)

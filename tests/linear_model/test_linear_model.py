"""Bilevel linear models against the search, RidgeCV, finite differences and scikit-learn's own fits."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import log_loss, mean_squared_error

from skhypergrad import BilevelLogisticRegression, BilevelRidge, BoundaryWarning, HypergradSearchCV, Real
from skhypergrad.linear_model import estimators
from skhypergrad.model_selection import named

X, y = load_diabetes(return_X_y=True)
XC, yc = load_iris(return_X_y=True)
BOX = Real(1e-6, 1e6)


def sparse_truth(n=60, p=40, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n + 500, p))
    y = X[:, :3] @ [2.0, -2.0, 1.0] + 0.3 * rng.normal(size=len(X))
    return X[:n], y[:n], X[n:], y[n:]


def test_one_penalty_is_what_the_search_finds():
    model = BilevelRidge().fit(X, y)
    search = HypergradSearchCV(Ridge(), {"alpha": BOX}, scoring="neg_mean_squared_error").fit(X, y)
    assert model.alpha_ == pytest.approx(search.best_params_["alpha"], rel=1e-9)
    assert model.criterion_ == pytest.approx(-search.best_score_, rel=1e-9)
    np.testing.assert_allclose(model.coef_, search.best_estimator_.coef_, rtol=1e-9)
    several = BilevelLogisticRegression().fit(XC, yc)
    search = HypergradSearchCV(LogisticRegression(), {"C": Real(1e-4, 1e4)}, scoring="neg_log_loss").fit(XC, yc)
    np.testing.assert_allclose(several.C_, search.best_params_["C"], rtol=1e-6)
    np.testing.assert_allclose(several.predict_proba(XC), search.predict_proba(XC), atol=1e-7)


def test_leave_one_out_is_ridge_cvs():
    grid = np.geomspace(1e-3, 1e3, 2000)
    theirs = RidgeCV(grid, scoring=None).fit(X, y)
    ours = BilevelRidge(cv="loo").fit(X, y)
    assert ours.criterion_ <= -theirs.best_score_ * (1 + 1e-6)
    assert ours.alpha_ == pytest.approx(theirs.alpha_, rel=np.log(grid[1] / grid[0]))
    fitted = RidgeCV([ours.alpha_], scoring=None).fit(X, y)
    assert ours.criterion_ == pytest.approx(-fitted.best_score_, rel=1e-9)
    np.testing.assert_allclose(ours.coef_, fitted.coef_, rtol=1e-6)
    wide = BilevelRidge(cv="loo").fit(X[:8], y[:8])
    assert wide.criterion_ == pytest.approx(-RidgeCV([wide.alpha_]).fit(X[:8], y[:8]).best_score_, rel=1e-6)


def test_the_derivative_of_the_leave_one_out_error_is_its_closed_form():
    trace = BilevelRidge(cv="loo").fit(X, y).trace_
    U, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    z = U.T @ y
    for alpha, value, slope in zip(trace["alpha"], trace["criterion"], trace["d_alpha"], strict=True):
        # residual / (1 - leverage), and what becomes of it as the shrinkage changes
        shrunk, change = s**2 / (s**2 + alpha), -(s**2) / (s**2 + alpha) ** 2
        residual, left = y - y.mean() - U @ (shrunk * z), 1 - 1 / len(y) - U**2 @ shrunk
        error = residual / left
        moved = -U @ (change * z) / left + residual * (U**2 @ change) / left**2
        assert value == pytest.approx(np.mean(error**2), rel=1e-12)
        assert slope == pytest.approx(alpha * 2 * np.mean(error * moved), rel=1e-9)


@pytest.mark.filterwarnings("ignore:max_steps")
@pytest.mark.parametrize("cv", [3, "loo"])
def test_the_derivative_by_each_penalty_is_that_of_finite_differences(cv):
    def at(alpha):
        return BilevelRidge(alpha, groups="features", shrinkage=None, cv=cv, max_iter=1).fit(X, y).trace_

    alpha = np.geomspace(0.01, 1.0, 10)
    trace = at(alpha)
    for j in (0, 4, 9):
        step = np.where(np.arange(10) == j, 1e-4, 0.0)
        difference = at(alpha * np.exp(step))["criterion"][0] - at(alpha * np.exp(-step))["criterion"][0]
        assert trace[f"d_alpha[{j}]"][0] == pytest.approx(difference / 2e-4, rel=1e-4, abs=1e-4)


def test_features_without_a_part_are_found_out():
    A, a, B, b = sparse_truth()
    common = mean_squared_error(b, BilevelRidge().fit(A, a).predict(B))
    model = BilevelRidge(groups="features").fit(A, a)
    assert mean_squared_error(b, model.predict(B)) < 0.5 * common
    assert 0 < model.shrinkage_ < 1
    assert model.alpha_[:3].max() < np.median(model.alpha_)
    grouped = BilevelRidge(groups=np.repeat([0, 1], [3, 37])).fit(A, a)
    assert grouped.alpha_[0] < 0.1 * grouped.alpha_[1]
    assert grouped.status_ == model.status_ == "converged"


def test_the_guard_leaves_the_common_penalty_where_noise_is_all_there_is():
    rng = np.random.default_rng(0)
    A, a = rng.normal(size=(60, 20)), rng.normal(size=60)
    assert BilevelRidge(groups="features").fit(A, a).shrinkage_ == 1.0
    assert np.ptp(BilevelRidge(groups="features", shrinkage=1.0).fit(A, a).alpha_) == 0


def test_what_is_returned_is_the_fit_with_these_penalties():
    A, a, *_ = sparse_truth()
    model = BilevelRidge(groups="features", shrinkage=0.1).fit(A, a)
    scaled = Ridge(1.0).fit(A / np.sqrt(model.alpha_), a)
    np.testing.assert_allclose(model.coef_, scaled.coef_ / np.sqrt(model.alpha_), rtol=1e-6, atol=1e-9)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(A), model.predict(A))


def test_class_weights_are_tuned_for_balanced_classes():
    rare = np.r_[0:50, 50:100, 100:110]
    A, a = XC[rare][:, :2], yc[rare]
    model = BilevelLogisticRegression(class_weight="tune", cv=3).fit(A, a)
    share = np.bincount(a) / len(a)
    assert share @ model.class_weight_ == pytest.approx(1)
    assert model.class_weight_[2] > 2 * model.class_weight_[1]
    weights = dict(enumerate(model.class_weight_))
    theirs = LogisticRegression(C=model.C_, class_weight=weights, tol=1e-10, max_iter=10_000).fit(A, a)
    assert log_loss(a, model.predict_proba(A)) == pytest.approx(log_loss(a, theirs.predict_proba(A)), rel=1e-5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"groups": [0, 1]}, "a group for each of the 10 features"),
        ({"groups": np.linspace(0, 1, 10)}, "must be integers"),
        ({"groups": [0] * 5 + [2] * 5}, "no feature in group 1"),
        ({"groups": [-1] * 5 + [0] * 5}, "-1 is negative"),
        ({"bounds": (1.0, 0.1)}, "low < high"),
        ({"bounds": (0.1,)}, "two numbers"),
        ({"shrinkage": -1.0}, "shrinkage"),
    ],
)
def test_bad_input_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        BilevelRidge(**params).fit(X, y)


def test_a_bound_is_told():
    rng = np.random.default_rng(1)
    with pytest.warns(BoundaryWarning, match="upper bound"):
        BilevelRidge(bounds=(1e-3, 1e-2)).fit(rng.normal(size=(50, 5)), rng.normal(size=50))


def test_the_names_of_methods_and_optimizers_are_those_of_the_search():
    assert set(named.METHODS) - {"online"} == estimators.METHODS
    assert set(named.OPTIMIZERS) == estimators.OPTIMIZERS


def test_many_penalties_leave_a_plateau_of_the_common_one():
    # rows abound, so that the best common penalty is none and its derivatives vanish; two features do matter
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 6))
    label = (rows[:, :2] @ [1.0, -1.0] + rng.logistic(size=3000) > 0).astype(int)
    split = [(np.arange(1000), np.arange(1000, 3000))]
    common = BilevelLogisticRegression(cv=split, bounds=(1e-3, 1e9))
    with pytest.warns(BoundaryWarning):
        common.fit(rows, label)
    each = BilevelLogisticRegression(cv=split, bounds=(1e-3, 1e9), groups="features", shrinkage=0).fit(rows, label)
    assert each.criterion_ < common.criterion_ * (1 - 1e-4)
    given = BilevelLogisticRegression(
        np.full(6, 0.01), cv=split, bounds=(1e-3, 1e9), groups="features", shrinkage=0, tol=1e-6, max_iter=300
    ).fit(rows, label)
    assert each.criterion_ == pytest.approx(given.criterion_, rel=1e-3)
    assert max(each.C_[2:]) < min(each.C_[:2])

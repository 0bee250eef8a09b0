"""The one-standard-error rule, here and in scikit-learn's own search."""

import pickle

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhypergrad import HypergradSearchCV, one_standard_error
from skhypergrad.bilevel import Status, Stop
from skhypergrad.model_selection.tuner import Tuner

X, y = load_diabetes(return_X_y=True)
GRID = list(np.geomspace(1e-3, 1e3, 25))


def standard_error(scores):
    return np.std(scores, ddof=1) / np.sqrt(len(scores))


def test_in_a_grid_the_simplest_of_the_equally_good_is_chosen():
    grid = GridSearchCV(Ridge(), {"alpha": GRID}, cv=5, refit=one_standard_error("alpha")).fit(X, y)
    means = grid.cv_results_["mean_test_score"]
    scores = cross_val_score(Ridge(alpha=GRID[int(np.argmax(means))]), X, y, cv=5)
    good = means >= scores.mean() - standard_error(scores)
    assert grid.best_index_ == np.flatnonzero(good).max()
    assert grid.best_index_ > np.argmax(means)
    ours = HypergradSearchCV(Ridge(), {"alpha": GRID}, cv=5, refit=one_standard_error("alpha")).fit(X, y)
    assert ours.best_params_ == grid.best_params_
    assert not hasattr(ours, "best_score_")


def test_what_the_rule_reads():
    results = {
        "param_alpha": np.ma.masked_array([1.0, 5.0, 9.0, 5.0, 20.0], mask=[0, 0, 0, 0, 1]),
        "mean_test_score": np.array([0.9, 0.88, 0.5, 0.89, 0.9]),
        "split0_test_score": np.array([0.88, 0, 0, 0, 0]),
        "split1_test_score": np.array([0.92, 0, 0, 0, 0]),
    }
    # standard error 0.02; of the two with alpha = 5 the better one
    assert one_standard_error("alpha")(results) == 3
    assert one_standard_error("alpha", simplest="smallest")(results) == 0
    assert one_standard_error("alpha")({**results, "mean_test_score": np.full(5, np.nan)}) == 0
    rule = one_standard_error("logisticregression__C", metric="accuracy")
    assert (rule.simplest, rule.metric) == ("smallest", "accuracy")
    assert pickle.loads(pickle.dumps(rule)) == rule
    with pytest.raises(ValueError, match="simplest='largest' or simplest='smallest'"):
        one_standard_error("gamma")


@pytest.mark.parametrize("scoring", ["neg_mean_squared_error", "neg_median_absolute_error"])
def test_in_a_continuous_space_the_score_has_fallen_by_one_standard_error(scoring):
    rule = one_standard_error("alpha")
    search = HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-3, 1e3)}, cv=5, scoring=scoring, refit=rule).fit(X, y)
    best, simple = (row["alpha"] for row in search.cv_results_["params"])
    assert search.best_params_ == {"alpha": simple}
    assert simple > best
    assert search.status_ == "judged"
    scores = cross_val_score(Ridge(alpha=best, tol=1e-10), X, y, cv=5, scoring=scoring)
    least = scores.mean() - standard_error(scores)

    def mean(alpha):
        return cross_val_score(Ridge(alpha=alpha, tol=1e-10), X, y, cv=5, scoring=scoring).mean()

    assert mean(simple) >= least
    # on the way to the bound, which is log(1e3 / best) away, halved eight times
    assert mean(simple * (1e3 / best) ** (2 / 2**8)) < least
    np.testing.assert_allclose(search.predict(X), Ridge(alpha=simple).fit(X, y).predict(X), rtol=1e-6)


def test_the_other_values_stay_and_a_bound_that_is_as_good_is_taken():
    X, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    space = {"logisticregression__C": loguniform(0.3, 1e2), "logisticregression__fit_intercept": [True, False]}
    rule = one_standard_error("logisticregression__C", metric="neg_log_loss")
    search = HypergradSearchCV(model, space, scoring=["neg_log_loss", "roc_auc"], refit=rule, cv=3).fit(X, y)
    assert search.best_params_["logisticregression__C"] == pytest.approx(0.3)
    rows = search.cv_results_["params"]
    assert len(rows) == 4
    assert {row["logisticregression__fit_intercept"] for row in rows} == {True, False}


def test_a_finished_descent_survives_an_interrupt_on_the_way_to_a_simpler_point(monkeypatch):
    simpler = Tuner._simpler

    def interrupted(self, posed, solution, callback):
        def press(evaluation):
            raise KeyboardInterrupt

        return simpler(self, posed, solution, press)

    monkeypatch.setattr(Tuner, "_simpler", interrupted)
    search = HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-3, 1e3)}, cv=5, refit=one_standard_error("alpha"))
    with pytest.warns(ConvergenceWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    plain = HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-3, 1e3)}, cv=5).fit(X, y)
    assert search.best_params_ == plain.best_params_
    assert search.status_ == "interrupted"


def test_max_time_ends_the_way_to_a_simpler_point(monkeypatch):
    times = []

    def slow(self, posed, solution, callback):
        def late(evaluation):
            times.append(evaluation.seconds)
            raise Stop(Status.timeout)

        return simpler(self, posed, solution, late)

    simpler = Tuner._simpler
    monkeypatch.setattr(Tuner, "_simpler", slow)
    HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-3, 1e3)}, cv=5, refit=one_standard_error("alpha")).fit(X, y)
    assert len(times) == 1

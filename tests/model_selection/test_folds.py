"""The winner's estimators of every fold, and what they say of the rows they have not seen."""

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, RepeatedKFold, ShuffleSplit, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhypergrad import HypergradSearchCV
from skhypergrad.model_selection.folds import out_of_fold

X, y = load_diabetes(return_X_y=True)


def test_predictions_are_those_of_cross_validation():
    cv = KFold(4)
    model = make_pipeline(StandardScaler(), Ridge())
    search = HypergradSearchCV(model, {"ridge__alpha": loguniform(1e-2, 1e2)}, cv=cv, return_estimator=True).fit(X, y)
    assert len(search.fold_estimators_) == 4
    again = cross_val_predict(search.best_estimator_, X, y, cv=cv)
    np.testing.assert_allclose(search.fold_predictions_, again, rtol=1e-6)
    assert type(search.fold_estimators_[0]) is type(model)


def test_probabilities_and_their_loss():
    X, y = load_iris(return_X_y=True)
    cv = StratifiedKFold(3)
    space = {"C": loguniform(1e-2, 1e2)}
    options = {"cv": cv, "scoring": "neg_log_loss", "return_estimator": True}
    search = HypergradSearchCV(LogisticRegression(), space, **options).fit(X, y)
    assert search.fold_predictions_.shape == (150, 3)
    # folds of equal size
    assert log_loss(y, search.fold_predictions_) == pytest.approx(-search.best_score_, rel=1e-9)


def test_lists_have_them_too():
    search = HypergradSearchCV(KNeighborsRegressor(), {"n_neighbors": [3, 9]}, cv=KFold(3), return_estimator=True)
    search.fit(X, y)
    again = cross_val_predict(search.best_estimator_, X, y, cv=KFold(3))
    np.testing.assert_allclose(search.fold_predictions_, again)


def test_rows_that_are_tested_often_or_never():
    space = {"alpha": loguniform(1e-2, 1e2)}
    often = RepeatedKFold(n_splits=3, n_repeats=2, random_state=0)
    search = HypergradSearchCV(Ridge(), space, cv=often, return_estimator=True).fit(X, y)
    first = [e for e, (_, test) in zip(search.fold_estimators_, often.split(X), strict=True) if 0 in test]
    assert search.fold_predictions_[0] == pytest.approx(np.mean([e.predict(X[:1])[0] for e in first]))
    some = ShuffleSplit(2, test_size=0.1, random_state=0)
    search = HypergradSearchCV(Ridge(), space, cv=some, return_estimator=True).fit(X, y)
    tested = np.unique(np.concatenate([test for _, test in some.split(X)]))
    assert (np.isfinite(search.fold_predictions_).nonzero()[0] == tested).all()


class First(ClassifierMixin, BaseEstimator):
    """Predicts the first label it was shown, and nothing else can be asked of it."""

    def fit(self, X, y):
        self.label_ = y[0]
        return self

    def predict(self, X):
        return np.full(len(X), self.label_)


def test_labels_where_there_is_nothing_else():
    X, y = np.zeros((6, 1)), np.array(["a", "a", "b", "b", "c", "c"])
    splits = [([0, 1], [2, 3]), ([2, 3], [4, 5])]
    fitted = [First().fit(X[train], y[train]) for train, _ in splits]
    assert out_of_fold(fitted, X, splits).tolist() == [None, None, "a", "a", "b", "b"]


def test_without_a_best_candidate_there_is_nothing_to_keep():
    search = HypergradSearchCV(
        Ridge(), {"alpha": loguniform(1e-2, 1e2)}, scoring=["r2", "neg_mean_squared_error"], refit=False,
        return_estimator=True,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="no best one"):
        search.fit(X, y)
    assert not hasattr(search, "fold_estimators_")

"""A search inside and around scikit-learn's other meta-estimators, with lists and with continuous spaces."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import loguniform
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import BaggingRegressor, StackingClassifier, StackingRegressor, VotingClassifier
from sklearn.feature_selection import RFECV
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skhypergrad import HypergradSearchCV

XR, YR = load_diabetes(return_X_y=True)
XR, YR = XR[:120], YR[:120]
XC, YC = load_breast_cancer(return_X_y=True)
XC, YC = StandardScaler().fit_transform(XC)[:150, :6], YC[:150]

SPACES = {"list": [0.1, 1.0, 10.0], "continuous": loguniform(0.1, 10.0)}
pytestmark = [
    pytest.mark.parametrize("kind", SPACES),
    # small samples have their optimum on a bound now and then
    pytest.mark.filterwarnings("ignore::skhypergrad.BoundaryWarning"),
]


def ridge(kind, **options):
    return HypergradSearchCV(Ridge(), {"alpha": SPACES[kind]}, cv=2, **options)


def logistic(kind, **options):
    return HypergradSearchCV(LogisticRegression(), {"C": SPACES[kind]}, cv=2, **options)


REGRESSORS = {
    "the last step of a pipeline": lambda search: make_pipeline(StandardScaler(), search),
    "transformed target": lambda search: TransformedTargetRegressor(search, func=np.log1p, inverse_func=np.expm1),
    "several outputs": lambda search: MultiOutputRegressor(search),
    "bagging": lambda search: BaggingRegressor(search, n_estimators=2, random_state=0),
    "stacking": lambda search: StackingRegressor([("a", search)], final_estimator=Ridge(), cv=2),
    "a search in a search": lambda search: GridSearchCV(search, {"cv": [2, 3]}, cv=2),
    "features by cross-validation": lambda search: RFECV(
        search, importance_getter="best_estimator_.coef_", cv=2, step=4, min_features_to_select=2
    ),
}
CLASSIFIERS = {
    "calibration": lambda search: CalibratedClassifierCV(search, cv=2),
    "threshold": lambda search: TunedThresholdClassifierCV(search, cv=2),
    "stacking": lambda search: StackingClassifier([("a", search)], final_estimator=LogisticRegression(), cv=2),
    "voting": lambda search: VotingClassifier([("a", search)], voting="soft"),
    "one against the rest": lambda search: OneVsRestClassifier(search),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_around_a_regressor(kind, name):
    y = np.column_stack([YR, YR[::-1]]) if name == "several outputs" else YR
    model = REGRESSORS[name](ridge(kind)).fit(XR, y)
    assert model.predict(XR).shape == y.shape
    assert model.score(XR, y) > 0.1


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_around_a_classifier(kind, name):
    model = CLASSIFIERS[name](logistic(kind)).fit(XC, YC)
    assert model.score(XC, YC) > 0.9
    assert model.predict_proba(XC).shape == (150, 2)


def test_a_chain_of_labels(kind):
    labels = np.column_stack([YC, XC[:, 0] > 0]).astype(int)
    chain = ClassifierChain(logistic(kind), random_state=0).fit(XC, labels)
    assert chain.score(XC, labels) > 0.8


def test_functions_that_take_an_estimator(kind):
    search = ridge(kind)
    done = cross_validate(search, XR, YR, cv=2, return_estimator=True)
    assert all(0.1 <= fitted.best_params_["alpha"] <= 10 for fitted in done["estimator"])
    np.testing.assert_allclose(cross_val_score(search, XR, YR, cv=2), done["test_score"])
    assert cross_val_predict(search, XR, YR, cv=2).shape == YR.shape
    sizes, _, scores = learning_curve(search, XR, YR, cv=2, train_sizes=[30, 60])
    assert scores.shape == (len(sizes), 2)
    importance = permutation_importance(search.fit(XR, YR), XR, YR, n_repeats=2, random_state=0)
    assert importance.importances_mean.argmax() in (2, 8)


def test_inside_are_pipelines_with_names_of_their_own(kind):
    inner = Pipeline([("scale", StandardScaler()), ("fit", Ridge())])
    outer = Pipeline([("first", StandardScaler()), ("then", inner)])
    search = HypergradSearchCV(outer, {"then__fit__alpha": SPACES[kind]}, cv=2).fit(XR, YR)
    assert search.best_estimator_["then"]["fit"].alpha == search.best_params_["then__fit__alpha"]


def test_frames_go_in_and_come_out(kind):
    frame = load_diabetes(as_frame=True).data.iloc[:120]
    scaled = make_pipeline(StandardScaler().set_output(transform="pandas"), ridge(kind)).fit(frame, YR)
    assert list(scaled[-1].feature_names_in_) == list(frame.columns)
    search = HypergradSearchCV(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": SPACES[kind]}, cv=2)
    search.fit(pl.from_pandas(frame), pl.Series(YR))
    assert list(search.feature_names_in_) == list(frame.columns)
    np.testing.assert_allclose(search.predict(pl.from_pandas(frame)), search.predict(frame))


def test_a_display_of_its_parts(kind):
    search = ridge(kind).fit(XR, YR)
    html = search._repr_html_()
    assert "best_estimator_: Ridge" in html
    assert "https://skhypergrad.readthedocs.io/" in html

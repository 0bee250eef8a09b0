"""Scalers that were fitted from statistics are the scalers that were fitted on the rows."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedShuffleSplit, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, StandardScaler

from skhypergrad import HypergradSearchCV
from skhypergrad.adapters import scaling, task
from skhypergrad.adapters.scaling import scaled

PIPELINES = [
    make_pipeline(StandardScaler(), Ridge()),
    make_pipeline(StandardScaler(with_mean=False), Ridge()),
    make_pipeline(StandardScaler(with_std=False), Ridge()),
    make_pipeline(StandardScaler(with_mean=False, with_std=False), Ridge()),
    make_pipeline(MinMaxScaler((-3, 2)), Ridge()),
    make_pipeline(MaxAbsScaler(), Ridge()),
    make_pipeline(MaxAbsScaler(), "passthrough", MinMaxScaler(), StandardScaler(), Ridge()),
]


@pytest.fixture
def rows(rng):
    X = rng.normal(size=(60, 6)) * 10.0 ** np.arange(-3, 3) + [0, 5, -5, 100, 0, 1e4]
    X[:, 4] = 0.1  # constant
    return X, (X / np.ptp(X + 1e-9, axis=0).clip(1e-3)) @ rng.normal(size=6) + rng.normal(size=60)


SPLITTERS = [KFold(4, shuffle=True, random_state=0), ShuffleSplit(3, test_size=0.3, random_state=0)]


@pytest.mark.parametrize("frame", [False, True])
@pytest.mark.parametrize("splitter", SPLITTERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda p: "-".join(type(s).__name__ for _, s in p.steps))
def test_fitted_attributes_are_those_of_a_fit(pipeline, splitter, frame, rows):
    X, y = rows
    X = pd.DataFrame(X, columns=list("abcdef")) if frame else X
    splits = [*splitter.split(X), (np.arange(60), np.arange(1))]
    found = scaled(pipeline, X, y, splits, {})
    for k, (train, _) in enumerate(splits):
        fitted = clone(pipeline).fit(X.iloc[train] if frame else X[train], y[train])
        for (_, ours), (_, theirs) in zip(found.folds[k].pipeline.steps[:-1], fitted.steps[:-1], strict=True):
            if theirs == "passthrough":
                continue
            assert vars(ours).keys() == vars(theirs).keys()
            for name, value in vars(theirs).items():
                own = vars(ours)[name]
                assert type(own) is type(value), name
                if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                    # what is zero is so up to rounding
                    np.testing.assert_allclose(own, value, rtol=1e-11, atol=1e-15, err_msg=name)
                else:
                    assert np.array_equal(own, value), name
        expected = fitted[:-1].transform(X)
        got = found.table.X * found.table.scale[k] + found.table.shift[k]
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10)


OTHERS = {
    "another transformer": make_pipeline(FunctionTransformer(), StandardScaler(), Ridge()),
    "a subclass": make_pipeline(type("Own", (StandardScaler,), {})(), Ridge()),
    "clipped": make_pipeline(MinMaxScaler(clip=True), Ridge()),
    "frames as output": make_pipeline(StandardScaler().set_output(transform="pandas"), Ridge()),
    "nested": make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), Ridge())),
    "cached": Pipeline([("scale", StandardScaler()), ("ridge", Ridge())], memory="somewhere"),
    "no steps": make_pipeline(Ridge()),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_whatever_else_is_run(kind, rows):
    X, y = rows
    assert scaled(OTHERS[kind], X, y, list(KFold(3).split(X)), {}) is None


def test_only_plain_finite_rows_in_double_precision_are_not_transformed(rows):
    X, y = rows
    plain, splits = PIPELINES[0], list(KFold(3).split(X))
    assert scaled(plain, X, y, splits, {}) is not None
    assert scaled(plain, X.round().astype(int), y, splits, {}) is not None
    broken = X.copy()
    broken[5, 1] = np.nan
    twice = [(np.repeat(train, 2), test) for train, test in splits]
    for other in ((X.astype(np.float32), splits), (X.tolist(), splits), (broken, splits), (X, twice)):
        assert scaled(plain, other[0], y, other[1], {}) is None
    assert scaled(plain, X, y, splits, {"sample_weight": np.ones(60)}) is None


@pytest.mark.parametrize(
    ("model", "space", "scoring"),
    [
        (make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": loguniform(1e-3, 1e3)}, "r2"),
        (make_pipeline(MinMaxScaler(), Ridge(fit_intercept=False)), {"ridge__alpha": loguniform(1e-3, 1e3)}, None),
        (
            make_pipeline(StandardScaler(), LogisticRegression()),
            {"logisticregression__C": loguniform(1e-3, 1e1)},
            "neg_log_loss",
        ),
        (
            make_pipeline(MaxAbsScaler(), LogisticRegression()),
            {"logisticregression__C": loguniform(1e-3, 1e1)},
            lambda estimator, X, y: -log_loss(y, estimator.predict_proba(X)) - 1e-5 * estimator[0].scale_.mean(),
        ),
    ],
)
def test_a_search_is_the_same_as_on_transformed_rows(model, space, scoring, rows, monkeypatch):
    X, y = rows
    if isinstance(model[-1], LogisticRegression):
        y = y > np.median(y)
    cv = StratifiedShuffleSplit(4, random_state=0) if y.dtype == bool else KFold(4)
    asked = []
    original = scaling.scaled
    monkeypatch.setattr(task, "scaled", lambda *args: asked.append(1) or original(*args))
    found = HypergradSearchCV(model, space, scoring=scoring, cv=cv, return_estimator=True, error_score="raise").fit(
        X, y
    )
    assert asked
    monkeypatch.setattr(task, "scaled", lambda *args: None)
    other = HypergradSearchCV(model, space, scoring=scoring, cv=cv, return_estimator=True).fit(X, y)
    (name,) = space
    np.testing.assert_allclose(found.best_params_[name], other.best_params_[name], rtol=1e-3)
    np.testing.assert_allclose(found.best_score_, other.best_score_, rtol=1e-9)
    np.testing.assert_allclose(found.predict(X), other.predict(X), rtol=1e-3)
    np.testing.assert_allclose(found.fold_predictions_, other.fold_predictions_, rtol=1e-3)
    best = clone(model).set_params(**found.best_params_)
    if isinstance(model[-1], LogisticRegression):
        best[-1].set_params(tol=1e-10, max_iter=10000)
    expected = cross_val_score(best, X, y, scoring=scoring, cv=cv).mean()
    np.testing.assert_allclose(found.best_score_, expected, rtol=1e-6)

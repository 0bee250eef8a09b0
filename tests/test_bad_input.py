"""Bad input is refused before anything is compiled, by the right exception, naming cause and remedy."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from scipy.stats import loguniform, norm, randint, uniform
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from skhypergrad import BoundaryWarning, HypergradSearchCV, NotTunableError, Real
from skhypergrad.bilevel import LBFGSB

WIDE = loguniform(1e-3, 1e3)
N = 40


@pytest.fixture(autouse=True)
def nothing_is_compiled(request, monkeypatch):
    """The engine is out of reach unless a test asks for it."""
    if "solves" not in request.keywords:

        def refuse(*args, **kwargs):
            raise AssertionError("the engine was called before the input was checked")

        monkeypatch.setattr("skhypergrad.model_selection.tuner.tune", refuse)


def data(binary=False):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 4))
    y = X[:, 0] + rng.normal(size=N)
    return X, (y > 0).astype(int) if binary else y


def refused(error, match, estimator=None, space=None, X=None, y=None, options=None, **fit):
    estimator = Ridge() if estimator is None else estimator
    binary = not isinstance(estimator[-1] if hasattr(estimator, "steps") else estimator, (Ridge, Lasso))
    bundled = data(binary)
    search = HypergradSearchCV(estimator, {"alpha": WIDE} if space is None else space, **(options or {}))
    with pytest.raises(error, match=match) as info:
        search.fit(bundled[0] if X is None else X, bundled[1] if y is None else y, **fit)
    return str(info.value)


def test_what_cannot_be_tuned_names_what_can():
    pipe = make_pipeline(StandardScaler(), PolynomialFeatures(), LogisticRegression())
    said = refused(TypeError, "polynomialfeatures__degree", pipe, {"polynomialfeatures__degree": uniform(1, 3)})
    assert "'logisticregression__C': loguniform" in said
    said = refused(TypeError, "logisticregression__tol", pipe, {"logisticregression__tol": WIDE})
    assert "'logisticregression__C': loguniform" in said
    said = refused(ValueError, "logisticregression__D", pipe, {"logisticregression__D": WIDE})
    assert "'logisticregression__C': loguniform" in said
    forest = make_pipeline(StandardScaler(), RandomForestClassifier())
    said = refused(TypeError, "RandomForestClassifier", forest, {"randomforestclassifier__max_depth": uniform(1, 9)})
    assert "Ridge" in said
    assert "Lists" in said
    refused(NotTunableError, "Lasso", Lasso(), {"alpha": WIDE})


class MyRidge(Ridge):
    pass


def test_a_subclass_is_not_taken_for_its_parent():
    refused(NotTunableError, "MyRidge", MyRidge())


@pytest.mark.parametrize(
    ("estimator", "name", "match"),
    [
        (Ridge(positive=True), "alpha", "positive=False"),
        (LogisticRegression(solver="liblinear"), "C", "intercept"),
        (LogisticRegression(solver="saga", l1_ratio=0.5), "C", "l1_ratio=0"),
    ],
)
def test_objectives_the_engine_does_not_have_are_refused_with_a_remedy(estimator, name, match):
    refused(NotTunableError, match, estimator, {name: WIDE})


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (Real(10, 1), ValueError, "low < high"),
        (Real(-1, 1), ValueError, "positive"),
        (Real(np.nan, 1), ValueError, "finite"),
        (loguniform(10, 1), ValueError, "finite|low < high"),
        (norm(), TypeError, "norm"),
        (randint(1, 5), TypeError, "randint"),
        ("abc", TypeError, "list or a numpy array|iterable"),
        (1.0, TypeError, "list or a numpy array|iterable"),
        ([], ValueError, "non-empty"),
    ],
    ids=range(9),
)
def test_unusable_spaces(value, error, match):
    refused(error, match, space={"alpha": value})


class IntDistribution:
    low, high, log, step = 1, 5, False, 1


class FloatDistribution:
    low, high, log, step = 0.1, 5.0, True, None


class Stepped(FloatDistribution):
    step = 0.5


Stepped.__name__ = "FloatDistribution"


def test_spaces_of_other_libraries():
    refused(TypeError, "IntDistribution", space={"alpha": IntDistribution()})
    refused(TypeError, "step", space={"alpha": Stepped()})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_steps": 0}, "max_steps"),
        ({"tol": 0.0}, "tol"),
        ({"tol": "small"}, "tol"),
        ({"n_starts": 0}, "n_starts"),
        ({"method": "magic"}, "method"),
        ({"optimizer": "magic"}, "optimizer"),
        ({"criterion": "accuracy"}, "criterion"),
        ({"criterion": "log_loss"}, "squared_error"),
        ({"max_time": -1}, "max_time"),
        ({"scoring": "no such score"}, "scoring"),
        ({"cv": 100}, "n_splits=100"),
        ({"cv": [(np.arange(N), np.array([], int))]}, "Split 0"),
    ],
    ids=range(12),
)
def test_constructor_parameters_are_checked_at_fit(options, match):
    refused(ValueError, match, options=options)


def with_cell(value):
    X, _ = data()
    X[3, 1] = value
    return X


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        (with_cell(np.nan), ValueError, "Input X contains NaN"),
        (with_cell(np.inf), ValueError, "infinity"),
        (data()[0].astype(complex), ValueError, "Complex data not supported"),
        (data()[0][:, 0], ValueError, "Expected 2D array"),
        (data()[0][:, :, None], ValueError, "dim 3"),
        (data()[0][:, :0], ValueError, "0 feature"),
        (np.full((N, 2), "a"), ValueError, "could not convert"),
        (scipy.sparse.csr_array(with_cell(np.nan)), ValueError, "NaN"),
        (data()[0][:-1], ValueError, "inconsistent numbers of samples"),
        (np.asmatrix(data()[0]), TypeError, "np.matrix"),
    ],
    ids=range(10),
)
def test_unusable_features(X, error, match):
    refused(error, match, X=X)


def test_unusable_y():
    X, y = data()
    y[2] = np.nan
    refused(ValueError, "NaN", y=y)
    with pytest.raises(ValueError, match="requires y to be passed"):
        HypergradSearchCV(Ridge(), {"alpha": WIDE}).fit(X)
    logistic, space = LogisticRegression(), {"C": WIDE}
    refused(ValueError, "Unknown label type", logistic, space, y=data()[1], options={"cv": 3})
    refused(ValueError, "class", logistic, space, y=np.ones(N, int), options={"cv": KFold(3)})
    refused((TypeError, ValueError), "str|not supported", logistic, space, y=np.array(["a", 1] * (N // 2), object))


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (-np.ones(N), "Negative values"),
        (np.full(N, np.nan), "NaN"),
        (np.ones(N - 1), "sample_weight|inconsistent|shape"),
        (np.ones((N, 2)), "1D|dimension"),
        (np.zeros(N), "zero"),
        (np.r_[np.zeros(N // 5), np.ones(N - N // 5)], "held-out rows of split 0"),
    ],
    ids=["negative", "nan", "short", "two-dimensional", "zero", "a fold of zeros"],
)
def test_unusable_weights(weight, match):
    refused((ValueError, TypeError), match, options={"cv": KFold(5)}, sample_weight=weight)


def test_a_fit_parameter_the_engine_cannot_honour_is_not_dropped():
    class Odd(Ridge):
        def fit(self, X, y, sample_weight=None, extra=None):
            return super().fit(X, y, sample_weight)

    from skhypergrad import register
    from skhypergrad.adapters.base import _registry
    from skhypergrad.adapters.linear_model import ridge

    register(Odd)(ridge)
    try:
        refused(TypeError, "extra", Odd(), extra=np.ones(N))
    finally:
        del _registry[Odd]


@pytest.mark.solves
def test_no_data_set_is_too_odd_for_a_finite_answer():
    """Separable classes, constant and duplicated features, p >> n, scales of 1e+-12, a class missing from a fold."""
    rng = np.random.default_rng(0)
    X, y = data(binary=True)
    separable = X.copy()
    separable[:, 0] = np.where(y == 1, 5.0, -5.0)
    constant = np.column_stack([X, np.ones(N), X[:, 0], np.zeros(N)])
    wild = X * 10.0 ** np.array([-12, 0, 6, 12])
    wide = rng.normal(size=(N, 300))
    by_class = np.argsort(y, kind="stable")  # unshuffled folds: the first has the first class only
    three = np.repeat([0, 1, 2], [N // 2, N // 2 - 2, 2])
    cases = [
        (separable, y, None),
        (constant, y, None),
        (wild, y, None),
        (wide, y, None),
        (X[by_class], y[by_class], KFold(4)),
        (X, three, KFold(4)),
    ]
    for X_, y_, cv in cases:
        for estimator, name, scoring in (
            (LogisticRegression(tol=1e-8, max_iter=10_000), "C", "neg_log_loss"),
            (Ridge(), "alpha", "neg_mean_squared_error"),
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                search = HypergradSearchCV(estimator, {name: WIDE}, scoring=scoring, cv=cv).fit(X_, y_)
            assert np.isfinite(search.best_params_[name])
            used = search.trace_["criterion"][search.trace_["solved"]]
            assert len(used)
            assert np.isfinite(used).all()


@pytest.mark.solves
def test_a_constant_target_is_flat_and_said_so():
    X, _ = data()
    with pytest.warns(ConvergenceWarning, match="flat"):
        search = HypergradSearchCV(Ridge(), {"alpha": WIDE}, scoring="neg_mean_squared_error").fit(X, np.full(N, 3.0))
    assert search.status_ == "flat"
    assert not search.converged_


@pytest.mark.solves
def test_pure_noise_ends_at_the_bound():
    rng = np.random.default_rng(1)
    with pytest.warns(BoundaryWarning, match="alpha = 1 .upper bound"):
        HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-3, 1.0)}).fit(rng.normal(size=(60, 30)), rng.normal(size=60))


@pytest.mark.parametrize("optimizer", ["lbfgsb", "hoag", LBFGSB()], ids=repr)
def test_online_tuning_needs_an_optimizer_that_asks_for_no_criterion(optimizer):
    said = refused(ValueError, "method='online'", options={"method": "online", "optimizer": optimizer})
    assert "optimizer='adam'" in said

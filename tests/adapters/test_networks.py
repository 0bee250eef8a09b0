"""A network as the search trains it is the network that scikit-learn trains."""

import warnings

import jax
import numpy as np
import pytest
import scipy.sparse
from scipy.stats import loguniform
from sklearn.base import clone, is_classifier
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhypergrad import BilevelMLPClassifier, HypergradSearchCV, NotTunableError, Real
from skhypergrad.adapters import lookup
from skhypergrad.adapters.network_task import NetworkTask
from skhypergrad.adapters.task import Routed, prepare
from skhypergrad.bilevel import Forward, Implicit, value_and_hypergrad
from skhypergrad.bilevel.tune import _start, _step
from tests import catalogue

RATES = {"alpha": loguniform(1e-4, 1.0), "learning_rate_init": loguniform(1e-3, 0.1)}


@pytest.fixture(scope="module")
def rows():
    X, code = make_classification(91, 6, n_informative=4, n_classes=3, random_state=0)
    return X, code


def target_of(estimator, X, code):
    if is_classifier(estimator):
        return np.array(["a", "b", "c"])[code if estimator.random_state == 3 else code % 2]
    return X[:, :2] ** 2 if estimator.random_state == 3 else X[:, 0] ** 2


def pose(estimator, X, y, splits, weights, *, piped=False):
    whole = make_pipeline(StandardScaler(), estimator) if piped else estimator
    routed = Routed(weights, {})
    if piped:
        routed = Routed({f"{type(estimator).__name__.lower()}__{k}": v for k, v in weights.items()}, {})
    folds = prepare(whole, X, y, splits, routed, None)
    return NetworkTask(whole, lookup(estimator), X, y, splits, len(splits), routed, folds)


def run(cut, hyper, method=None):
    with jax.enable_x64(True):
        method = method or Forward(cut.solver, cut.steps)
        hyper = {name: np.asarray(value, float) for name, value in hyper.items()}
        carry = _start(cut.problem, cut.axes, method, hyper, cut.data)
        value, _, carry = _step(cut.problem, cut.axes, method, hyper, cut.data, carry, 1.0)
        return float(value), carry


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("piped", [False, True], ids=["", "piped"])
@pytest.mark.parametrize("estimator", catalogue.NETWORKS, ids=repr)
def test_fold_networks_are_scikit_learns(rows, estimator, piped, weighted):
    X, code = rows
    y = target_of(estimator, X, code)
    splitter = StratifiedKFold if is_classifier(estimator) else KFold
    splits = list(splitter(3, shuffle=True, random_state=0).split(X, y))
    weights = {"sample_weight": np.random.default_rng(0).integers(1, 4, len(X)) / 2} if weighted else {}
    cut = pose(estimator, X, y, splits, weights, piped=piped).cut(lookup(estimator).criteria[0])
    value, carry = run(cut, {"alpha": estimator.alpha, "learning_rate_init": estimator.learning_rate_init})
    losses = []
    # epsilon is inside of Adam's root here, outside there
    tol = 1e-3 if estimator.solver == "adam" else 1e-8
    for k, (train, test) in enumerate(splits):
        scaler = StandardScaler(with_mean=piped, with_std=piped).fit(X[train])
        model = clone(estimator)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaler.transform(X[train]), y[train], **{k: v[train] for k, v in weights.items()})
        for (coef, intercept), c, b in zip(cut.restore(carry.params)[k], model.coefs_, model.intercepts_, strict=True):
            np.testing.assert_allclose(coef, c, rtol=tol, atol=tol)
            np.testing.assert_allclose(intercept, b, rtol=tol, atol=tol)
        assert int(np.ravel(carry.state.epochs)[k]) == model.n_iter_
        there = scaler.transform(X[test])
        if is_classifier(model):
            losses.append(log_loss(y[test], model.predict_proba(there), labels=model.classes_))
        else:
            losses.append(mean_squared_error(y[test], model.predict(there)))
    assert value == pytest.approx(np.mean(losses), rel=tol)


def test_some_of_these_trainings_end_by_themselves(rows):
    X, code = rows
    ends = []
    for estimator in catalogue.NETWORKS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = clone(estimator).fit(X, target_of(estimator, X, code))
        ends.append(model.n_iter_ < estimator.max_iter)
    assert set(ends) == {True, False}


def test_the_hypergradient_of_a_training_that_ended_is_a_difference(rows):
    X, _ = rows
    estimator = catalogue.NETWORKS[3]
    splits = list(KFold(3).split(X))
    cut = pose(estimator, X, X[:, 0] ** 2, splits, {}).cut("squared_error")
    forward = value_and_hypergrad(cut.problem, Forward(cut.solver, cut.steps), task_axes=cut.axes)
    hyper = {"alpha": 0.1, "learning_rate_init": 0.01, "momentum": 0.9}
    _, carry = run(cut, hyper)
    assert np.asarray(carry.state.epochs).min() < estimator.max_iter
    with jax.enable_x64(True):
        gradient = forward(hyper, cut.data)[1]
        for name, value in hyper.items():
            up, down = (float(forward({**hyper, name: value + s}, cut.data)[0]) for s in (1e-6, -1e-6))
            assert float(gradient[name]) == pytest.approx((up - down) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("method", ["auto", "reverse"])
def test_a_search_returns_a_network_of_scikit_learn(rows, method):
    X, code = rows
    estimator = MLPClassifier((5,), max_iter=15, random_state=0)
    space = {f"mlpclassifier__{name}": real for name, real in RATES.items()}
    with warnings.catch_warnings():
        # so few epochs
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = HypergradSearchCV(
            make_pipeline(StandardScaler(), estimator), space, scoring="neg_log_loss", cv=3, method=method, max_steps=6
        ).fit(X, code)
        same = clone(search.best_estimator_).fit(X, code)
    model = search.best_estimator_[-1]
    assert type(model) is MLPClassifier
    assert model.n_iter_ == 15
    np.testing.assert_array_equal(model.coefs_[0], same[-1].coefs_[0])
    # what was descended is what scikit-learn's own fits come to
    assert -search.best_score_ == pytest.approx(np.min(search.trace_["criterion"]), rel=1e-3)
    assert search.best_score_ > -np.max(search.trace_["criterion"])


def test_a_scorer_that_is_not_the_criterion_judges(rows):
    X, code = rows
    model, name = MLPClassifier((5,), max_iter=15, random_state=0), "learning_rate_init"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = HypergradSearchCV(model, {name: RATES[name]}, cv=3).fit(X, code)
        rates = np.unique(search.trace_[name])
        judged = GridSearchCV(model, {name: rates}, cv=3).fit(X, code).cv_results_["mean_test_score"]
    assert search.criterion_ == "log_loss"
    assert search.status_ in ("judged", "resolved", "boundary", "converged")
    assert search.best_score_ == max(judged)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"solver": "lbfgs"}, "solver='lbfgs'"),
        ({"loss": "poisson"}, "loss='poisson'"),
        ({"early_stopping": True}, "early_stopping=True"),
        ({"solver": "sgd", "learning_rate": "adaptive"}, "learning_rate='adaptive'"),
    ],
)
def test_other_trainings_are_refused(rows, changes, said):
    estimator = MLPRegressor if "loss" in changes else MLPClassifier
    search = HypergradSearchCV(estimator(**changes), {"alpha": RATES["alpha"]})
    with pytest.raises(NotTunableError, match=said):
        search.fit(*rows)


@pytest.mark.parametrize(
    ("options", "space", "said"),
    [
        ({"method": "online"}, RATES, "BilevelMLPClassifier"),
        ({"method": "implicit"}, RATES, "not trained to one"),
        ({"method": Implicit()}, RATES, "not trained to one"),
        ({}, {"momentum": loguniform(0.1, 0.9)}, "'momentum' of MLPClassifier cannot be tuned"),
        ({}, {"alpha": Real(1e-4, 1.0, shape=(2,))}, "alpha of MLPClassifier is one number"),
    ],
)
def test_what_a_network_has_no_answer_to_is_refused(rows, options, space, said):
    with pytest.raises(ValueError, match=said):
        HypergradSearchCV(MLPClassifier(), space, **options).fit(*rows)


@pytest.mark.parametrize("changes", [{"hidden_layer_sizes": "wide"}, {"hidden_layer_sizes": (3, 0)}, {"max_iter": 0}])
def test_parameters_that_scikit_learn_refuses_are_refused(rows, changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        HypergradSearchCV(MLPClassifier(**changes), RATES, cv=3).fit(*rows)


def test_a_fold_without_a_class_is_refused(rows):
    X, code = rows
    order = np.argsort(code)
    with pytest.raises(ValueError, match="no row of class 1"):
        HypergradSearchCV(MLPClassifier(), RATES, cv=KFold(3)).fit(X[order], code[order])


def test_folds_with_other_features_are_refused(rows):
    _, code = rows
    words = np.array([f"word{i} all" for i in range(len(code))])
    search = HypergradSearchCV(
        make_pipeline(CountVectorizer(), MLPClassifier()), {f"mlpclassifier__{k}": v for k, v in RATES.items()}, cv=2
    )
    with pytest.raises(ValueError, match="Fix its vocabulary"):
        search.fit(words, code)


def test_large_sparse_rows_are_refused(rows, monkeypatch):
    X, code = rows
    monkeypatch.setattr("skhypergrad.adapters.network_task.DENSE_CELLS", 10)
    with pytest.raises(ValueError, match="TruncatedSVD"):
        HypergradSearchCV(MLPClassifier(), RATES, cv=3).fit(scipy.sparse.csr_array(X), code)


def test_the_remedies_exist():
    assert "per_layer" in BilevelMLPClassifier().get_params()

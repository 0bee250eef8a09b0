"""Networks that tune themselves: from any learning rate, with folds and weights, and what they refuse."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from skhypergrad import BilevelMLPClassifier, BilevelMLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore:The held-out loss was still falling")


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), np.array(["a", "b", "c"])[y]


@pytest.fixture(scope="module")
def model(iris):
    return BilevelMLPClassifier((8,), random_state=0, validation_fraction=0.3, max_iter=100).fit(*iris)


@pytest.mark.parametrize("rate", [1e-5, 1.0])
def test_the_starting_rate_does_not_matter(iris, model, rate):
    other = BilevelMLPClassifier((8,), random_state=0, validation_fraction=0.3, max_iter=100, learning_rate_init=rate)
    assert other.fit(*iris).validation_score_ >= model.validation_score_ - 0.03
    assert model.validation_score_ > 0.9
    assert other.criterion_ < 0.25


def test_the_kept_moment_is_the_best_of_the_trace(iris):
    X, y = iris
    held_out = np.arange(150) % 3 == 0
    model = BilevelMLPClassifier((8,), random_state=0, max_iter=40)
    model.fit(X[~held_out], y[~held_out], X_val=X[held_out], y_val=y[held_out])
    assert model.validation_score_ == pytest.approx(model.score(X[held_out], y[held_out]))
    assert model.criterion_ == pytest.approx(log_loss(y[held_out], model.predict_proba(X[held_out])), rel=1e-9)
    trace = model.trace_
    (kept,) = np.flatnonzero(trace["criterion"] == model.criterion_)
    assert trace["alpha"][kept] == model.alpha_
    assert len(np.unique(trace["learning_rate_init"])) > 6
    assert model.status_ in ("stopped_early", "max_steps")


def test_folds_are_trained_at_once_beside_all_rows(iris):
    X, y = iris
    folds = BilevelMLPClassifier((8,), random_state=0, cv=2, max_iter=50, per_layer=True).fit(X, y)
    assert folds.learning_rate_init_.shape == folds.alpha_.shape == (2,)
    assert folds.score(X, y) > 0.9
    assert "learning_rate_init[1]" in folds.trace_


@pytest.mark.parametrize("method", ["forward", "reverse"])
def test_whole_trainings_are_differentiated(iris, method):
    X, _ = iris
    whole = BilevelMLPRegressor(
        (3,), "tanh", solver="momentum", tune=("momentum", "init_scale"), learning_rate_init=0.02, method=method,
        random_state=0, max_iter=20, validation_fraction=0.3,
    )  # fmt: skip
    whole.fit(X[:, :3], X[:, 3] * 100 + 7)
    assert whole.trace_["criterion"].min() < whole.trace_["criterion"][0]
    assert whole.score(X[:, :3], X[:, 3] * 100 + 7) > 0.5


@pytest.mark.parametrize("per_layer", [False, True])
def test_a_schedule_beats_the_constant_rate_it_begins_at(iris, per_layer):
    options = {"solver": "sgd", "tune": "learning_rate_init", "learning_rate_init": 0.05, "max_iter": 20}
    given = {"random_state": 0, "validation_fraction": 0.3, "per_layer": per_layer}
    model = BilevelMLPClassifier((6,), schedule=3, **options, **given).fit(*iris)
    assert model.learning_rate_init_.shape == ((3, 2) if per_layer else (3,))
    assert len(np.unique(model.learning_rate_init_)) > 1
    trace = model.trace_["criterion"]
    assert np.nanmin(trace) < 0.7 * trace[0]
    assert "learning_rate_init[2]" in model.trace_


def test_several_targets_and_single_precision(iris):
    X = iris[0].astype(np.float32)
    fitted = BilevelMLPRegressor((8,), random_state=0, max_iter=60).fit(X[:, :2], X[:, 2:])
    assert fitted.coefs_[0].dtype == fitted.predict(X[:, :2]).dtype == np.float32
    assert fitted.predict(X[:, :2]).shape == (150, 2)
    assert fitted.score(X[:, :2], X[:, 2:]) > 0.5


def test_predictions_need_no_jax(iris, model, tmp_path):
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps((model, iris[0], model.predict_proba(iris[0]))))
    code = (
        "import pickle, sys; sys.modules['jax'] = None\n"
        f"model, X, said = pickle.load(open({str(path)!r}, 'rb'))\n"
        "assert abs(model.predict_proba(X) - said).max() < 1e-12"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_skops_keeps_a_model(iris, model):
    io = pytest.importorskip("skops.io")
    dumped = io.dumps(model)
    own = "skhypergrad.neural_network.estimators.BilevelMLPClassifier"
    assert set(io.get_untrusted_types(data=dumped)) <= {own}
    np.testing.assert_array_equal(io.loads(dumped, trusted=[own]).predict(iris[0]), model.predict(iris[0]))


def test_an_interrupt_keeps_the_best_moment(iris, monkeypatch):
    count = []

    def show(self, evaluation):
        count.append(evaluation)
        if len(count) > 15:
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(BilevelMLPClassifier, "_show", show)
    cut_short = BilevelMLPClassifier((8,), random_state=0, validation_fraction=0.3, max_iter=100, verbose=1)
    with pytest.raises(KeyboardInterrupt):
        cut_short.fit(*iris)
    assert cut_short.status_ == "interrupted"
    assert cut_short.score(*iris) > 0.5


def test_an_interrupted_regression_predicts_in_the_units_of_the_target(iris, monkeypatch):
    X, _ = iris
    target = X[:, 3] * 100 + 7000

    def show(self, evaluation):
        if evaluation.value < 0.2:
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(BilevelMLPRegressor, "_show", show)
    cut_short = BilevelMLPRegressor((8,), random_state=0, verbose=1)
    with pytest.raises(KeyboardInterrupt):
        cut_short.fit(X[:, :3], target)
    assert cut_short.predict(X[:, :3]).shape == (150,)
    assert cut_short.score(X[:, :3], target) > 0.5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tune": ("momentum",)}, "'momentum' cannot be tuned: .*'beta_1'"),
        ({"schedule": 3, "method": "online"}, "method='online' has no schedule"),
        ({"schedule": 3, "tune": "alpha"}, "put 'learning_rate_init' into tune"),
        ({"tune": ()}, "tune is empty"),
        ({"tune": ("init_scale",)}, "use method='forward'"),
        ({"hidden_layer_sizes": (3, 0)}, "positive integers"),
        ({"validation_fraction": 0.99}, "Change validation_fraction"),
        ({"solver": "lbfgs"}, "'solver' parameter"),
    ],
)
def test_what_is_refused(iris, options, told):
    with pytest.raises(ValueError, match=told):
        BilevelMLPClassifier(**{"hidden_layer_sizes": (8,), **options}).fit(*iris)


def test_a_rate_that_diverges_on_its_way_is_told_of_and_gone_back_from(iris, monkeypatch):
    # moves so long that the learning rate leaves what the training bears
    monkeypatch.setattr("skhypergrad.neural_network.estimators.RATE", 4.0)
    monkeypatch.setattr("skhypergrad.neural_network.estimators.LEARNING_RATES", (1e-4,))
    model = BilevelMLPRegressor(
        (8,), "identity", solver="sgd", learning_rate_init=0.05, random_state=0, max_iter=60, validation_fraction=0.3
    )
    with pytest.warns(ConvergenceWarning, match="diverged on its way, at learning_rate_init = .*third of the rate"):
        model.fit(iris[0][:, :3], iris[0][:, 3])
    rates = model.trace_["learning_rate_init"]
    # 10 is the bound; the one before it is from the comparison of the starts
    _, first, *others = np.flatnonzero(~model.trace_["solved"])
    assert rates[first] == 10
    assert np.all(rates[first + 1 :] <= rates[first] / 3 * (1 + 1e-12))
    assert np.all(np.diff(rates[[first, *others]]) < 0)
    assert model.criterion_ == np.nanmin(model.trace_["criterion"])


def test_huge_rows_are_told_of(iris):
    X, _ = iris
    with pytest.raises(ValueError, match="Scale the features"):
        BilevelMLPRegressor((8,), random_state=0, max_iter=20).fit(X * 1e200, X[:, 0])


def test_a_class_without_a_held_out_row_is_told_of(iris):
    X, y = iris
    y = np.where(np.arange(150) < 2, "z", y)
    with pytest.warns(UserWarning, match="no row in the validation set"):
        BilevelMLPClassifier((8,), random_state=0, max_iter=10).fit(X, y)

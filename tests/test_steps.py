"""The estimators that tune themselves under callbacks and Ctrl-C: what is told, and what is left of a fit cut short."""

import warnings
from contextlib import nullcontext
from importlib import import_module

import numpy as np
import pytest
from sklearn.callback.tests._utils import RecordingCallback
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skhypergrad import BilevelLogisticRegression, BilevelMLPClassifier, BilevelMLPRegressor, BilevelRidge

diabetes, iris = load_diabetes(return_X_y=True), load_iris(return_X_y=True)

ESTIMATORS = {
    "ridge": (BilevelRidge(cv=3), diabetes),
    "ridge, guarded": (BilevelRidge(groups=np.arange(10) // 5, cv=3, shrinkage=0.3), diabetes),
    "ridge, cross-fitted": (BilevelRidge(groups=np.arange(10) // 2, cv=3), tuple(rows[:200] for rows in diabetes)),
    "logistic": (BilevelLogisticRegression(class_weight="tune", cv=3), iris),
    "network": (BilevelMLPClassifier((8,), random_state=0, validation_fraction=0.3, max_iter=60), iris),
    "network, regression": (BilevelMLPRegressor((8,), random_state=0, max_iter=60), diabetes),
}


class At(RecordingCallback):
    """Ends the fit after so many steps: by saying so, or by Ctrl-C."""

    def __init__(self, steps, by):
        super().__init__()
        self.steps, self.by, self.count = steps, by, 0

    def on_fit_task_end(self, estimator, context):
        self.count += context.task_name == "outer-step"
        if context.task_name == "outer-step" and self.count == self.steps:
            if self.by == "ctrl-c":
                raise KeyboardInterrupt
            return True
        return False


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_evaluation_is_told(name):
    estimator, (X, y) = ESTIMATORS[name]
    callback = At(None, "saying so")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.set_callbacks(callback).fit(X, y)
    # many penalties come after a common one
    assert callback.count >= max(estimator.n_iter_ - 1, 2)
    begun = [r["context"].task_name for r in callback.record if r["name"] == "on_fit_task_begin"]
    assert begun[0] == "fit"
    assert set(begun) == {"fit", "outer-step"}


@pytest.mark.parametrize("by", ["saying so", "ctrl-c"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_fit_cut_short_keeps_its_best(name, share, by):
    estimator, (X, y) = ESTIMATORS[name]
    counting = At(None, by)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = vars(estimator.set_callbacks(counting).fit(X, y)).copy()
    estimator.set_callbacks(At(max(int(share * counting.count), 2), by))
    for attribute in [attribute for attribute in whole if attribute.endswith("_")]:
        delattr(estimator, attribute)
    ends = pytest.raises(KeyboardInterrupt) if by == "ctrl-c" else nullcontext()
    with ends, pytest.warns(ConvergenceWarning, match="interrupted"):
        estimator.fit(X, y)
    assert whole.keys() <= vars(estimator).keys()
    assert estimator.status_ == "interrupted"
    assert np.isfinite(estimator.score(X, y))
    assert np.isfinite(estimator.criterion_)


@pytest.mark.parametrize("place", ["linear_model.setting.cut", "bilevel.tune._steps"])
def test_ctrl_c_before_anything_is_known_leaves_the_estimator_unfitted(monkeypatch, place):
    def pressed(*_, **__):
        raise KeyboardInterrupt

    estimator = BilevelRidge(cv=3)
    module, name = place.rsplit(".", 1)
    monkeypatch.setattr(import_module(f"skhypergrad.{module}"), name, pressed)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(*diabetes)
    with pytest.raises(NotFittedError):
        estimator.predict(diabetes[0])

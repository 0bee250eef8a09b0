"""Ctrl-C at any moment: the best so far is there, or everything is as it was before; never a mixture."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skhypergrad import HypergradSearchCV, Real, register
from skhypergrad.adapters import lookup

X, y = load_diabetes(return_X_y=True)
FITTED = {
    "best_params_",
    "best_score_",
    "best_index_",
    "cv_results_",
    "best_estimator_",
    "trace_",
    "status_",
    "scorer_",
}


def mixed():
    pipeline = make_pipeline(StandardScaler(), Ridge())
    space = {"standardscaler": [StandardScaler(), MinMaxScaler()], "ridge__alpha": loguniform(1e-3, 1e3)}
    return HypergradSearchCV(pipeline, space, cv=3, scoring="neg_mean_squared_error")


class At:
    """Presses Ctrl-C at the n-th call of a Python function."""

    def __init__(self, moment):
        self.moment, self.calls = moment, 0

    def __enter__(self):
        sys.setprofile(self._count)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)

    def _count(self, frame, event, argument):
        if event == "call":
            self.calls += 1
            if self.calls == self.moment:
                raise KeyboardInterrupt


def is_consistent(search):
    """Whether the results are those of its best parameters, fitted by scikit-learn."""
    assert vars(search).keys() >= FITTED
    assert "_run" not in vars(search)
    assert search.status_ == "interrupted"
    assert not search.converged_
    model = mixed().estimator.set_params(**search.best_params_)
    scores = cross_val_score(model, X, y, cv=3, scoring="neg_mean_squared_error")
    np.testing.assert_allclose(search.best_score_, scores.mean(), rtol=1e-6)
    np.testing.assert_allclose(search.predict(X), model.fit(X, y).predict(X), rtol=1e-5)
    rows = len(search.cv_results_["params"])
    assert all(len(column) == rows for column in search.cv_results_.values())
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]
    return True


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fifty_moments():
    mixed().fit(X, y)
    with At(None) as whole:
        mixed().fit(X, y)
    fitted = unfitted = 0
    for moment in np.random.default_rng(0).integers(1, whole.calls, 50):
        search = mixed()
        constructed = dict(vars(search))
        try:
            with At(moment):
                search.fit(X, y)
        except KeyboardInterrupt:
            if "best_params_" in vars(search):
                fitted += is_consistent(search)
            else:
                unfitted += vars(search) == constructed
                assert vars(search) == constructed
        # nothing is left behind that disturbs the next search
        assert search.fit(X, y).status_ == "converged"
    # most of the time goes into searching, so both must have happened
    assert fitted >= 15
    assert unfitted >= 3


def test_an_earlier_fit_survives_an_interrupt_before_the_first_point():
    search = mixed().fit(X, y)
    before = dict(vars(search))
    with At(200), pytest.raises(KeyboardInterrupt):
        search.fit(X[:200], y[:200])
    assert vars(search) == before


def test_an_interrupt_in_the_refit_keeps_what_was_found():
    class Slow(Ridge):
        def fit(self, X, y, sample_weight=None):
            if len(X) == len(globals()["X"]):
                raise KeyboardInterrupt
            return super().fit(X, y, sample_weight)

    spaces = [{"alpha": Real(1e-3, 1e3)}, {"alpha": [1.0]}]
    register(Slow)(lambda estimator: lookup(Ridge(**estimator.get_params())))
    search = HypergradSearchCV(Slow(), spaces, method="reverse", cv=3).fit(X[:300], y[:300])
    with pytest.warns(ConvergenceWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert search.status_ == "interrupted"
    assert np.isfinite(search.best_score_)
    assert len(search.cv_results_["params"]) == 2
    with pytest.raises(NotFittedError):
        search.predict(X)


def test_the_warning_comes_before_the_interrupt():
    def stop(evaluation):
        raise KeyboardInterrupt

    search = HypergradSearchCV(Ridge(), {"alpha": Real(1e-3, 1e3)}, cv=3)
    search._progress = lambda step, context: stop
    with pytest.warns(ConvergenceWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert search.status_ == "interrupted"
    assert np.isfinite(search.best_score_)


def test_a_real_signal_ends_a_long_search_within_two_seconds():
    script = """
        import sys, time
        import numpy as np
        from sklearn.linear_model import LogisticRegression
        from skhypergrad import HypergradSearchCV, Real

        rng = np.random.default_rng(0)
        X = rng.standard_normal((2000, 50))
        y = (X[:, 0] + rng.standard_normal(2000) > 0).astype(int)

        class Slow(HypergradSearchCV):
            def _progress(self, step, context):
                inner = super()._progress(step, context)

                def progress(evaluation):
                    print("evaluated", flush=True)
                    time.sleep(0.2)
                    return inner(evaluation)

                return progress

        search = Slow(LogisticRegression(), {"C": Real(1e-4, 1e4)}, scoring="neg_log_loss", n_starts=200)
        try:
            search.fit(X, y)
        except KeyboardInterrupt:
            print("interrupted", search.status_, search.best_score_, search.predict(X[:2]).shape, flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        for _ in range(4):
            assert child.stdout.readline().strip() == "evaluated"
        child.send_signal(signal.SIGINT)
        began = time.perf_counter()
        output, _ = child.communicate(timeout=60)
        seconds = time.perf_counter() - began
    finally:
        child.kill()
    last = output.strip().splitlines()[-1]
    assert last.startswith("interrupted interrupted -0."), output
    assert seconds < 10, "two seconds on an idle machine"

"""scikit-learn's callbacks in a continuous search: the tree of tasks, stopping, and what can be read on the way."""

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.callback.tests._utils import RecordingAutoPropagatedCallback, RecordingCallback, StopFitCallback
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skhypergrad import HypergradSearchCV, Real

X, y = load_diabetes(return_X_y=True)


def ridge(**options):
    return HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-3, 1e3)}, cv=3, **options)


def names(callback, hook):
    return [record["context"].task_name for record in callback.record if record["name"] == hook]


@pytest.mark.parametrize("recording", [RecordingCallback, RecordingAutoPropagatedCallback])
def test_the_tree_of_tasks(recording):
    callback = recording()
    search = ridge().set_callbacks(callback).fit(X, y)
    steps = len(search.trace_["criterion"])
    begun, ended = names(callback, "on_fit_task_begin"), names(callback, "on_fit_task_end")
    assert sorted(begun) == sorted(ended)
    assert begun[:3] == ["fit", "search", "hypergradient-search"]
    # a verification after the descent is not a step of it
    assert steps - 1 <= begun.count("outer-step") <= steps
    assert begun.count("candidate-split-evaluation") == 3
    assert begun.count("refit-with-best-params") == 1
    assert ended[-1] == "fit"
    root = callback.record[0]["context"]
    (search_task, refit) = root._children_map.values()
    assert [child.task_name for child in search_task._children_map.values()] == [
        "hypergradient-search",
        "evaluate-candidates",
    ]
    assert refit.task_name == "refit-with-best-params"
    assert names(callback, "setup") == names(callback, "teardown") == ["fit"]


def test_a_mixed_space_has_a_task_for_every_combination():
    callback = RecordingCallback()
    space = {"standardscaler": [StandardScaler(), MinMaxScaler()], "ridge__alpha": loguniform(1e-3, 1e3)}
    search = HypergradSearchCV(make_pipeline(StandardScaler(), Ridge()), [space, {"ridge__alpha": [1.0]}], cv=3)
    search.set_callbacks(callback).fit(X, y)
    begun = names(callback, "on_fit_task_begin")
    assert begun.count("hypergradient-search") == 2
    assert begun.count("candidate-split-evaluation") == 9


def test_a_stop_is_honoured_at_the_next_step_and_the_best_so_far_is_finished():
    class After(RecordingCallback):
        def on_fit_task_end(self, estimator, context):
            return context.task_name == "outer-step" and estimator.best_so_far_["evaluations"] >= 3

    with pytest.warns(ConvergenceWarning, match="interrupted"):
        search = ridge().set_callbacks(After()).fit(X, y)
    assert search.status_ == "interrupted"
    assert not search.converged_
    # and one more, which verifies the best of them
    assert len(search.trace_["criterion"]) in (3, 4)
    assert search.predict(X).shape == y.shape


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_stop_everywhere_stops_the_search_alone():
    """scikit-learn's callback says stop at every task; the scoring and the refit are finished all the same."""
    search = ridge().set_callbacks(StopFitCallback()).fit(X, y)
    assert search.status_ == "interrupted"
    assert {"best_score_", "cv_results_", "best_estimator_"} <= vars(search).keys()


def test_the_combinations_after_a_stop_are_left_out_and_said():
    space = {"fit_intercept": [True, False], "alpha": Real(1e-3, 1e3)}
    with pytest.warns(ConvergenceWarning, match="1 of 2 combinations"):
        search = HypergradSearchCV(Ridge(), space, cv=3).set_callbacks(StopFitCallback()).fit(X, y)
    assert len(search.cv_results_["params"]) == 1


def test_the_best_so_far_can_be_read_while_the_search_runs_and_only_then():
    seen = []

    class Read(RecordingCallback):
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "outer-step":
                seen.append(estimator.best_so_far_)

    search = ridge(scoring="neg_mean_squared_error").set_callbacks(Read()).fit(X, y)
    criteria = [state["criterion"] for state in seen]
    assert criteria == sorted(criteria, reverse=True)
    assert [state["evaluations"] for state in seen] == list(range(1, len(seen) + 1))
    assert seen[-1]["params"].keys() == {"alpha"}
    np.testing.assert_allclose(seen[-1]["criterion"], -search.best_score_, rtol=1e-4)
    assert not hasattr(search, "best_so_far_")
    assert not hasattr(ridge(), "best_so_far_")


def test_scikit_learns_own_callbacks(capsys):
    monitor = ScoringMonitor(scoring="r2")
    search = ridge().set_callbacks(ProgressBar(), monitor).fit(X, y)
    assert "hypergradient-search" in capsys.readouterr().out
    assert search.status_ == "converged"


def test_a_failing_callback_leaves_the_earlier_fit():
    class Fails(RecordingCallback):
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "outer-step":
                raise RuntimeError("no more")

    search = ridge().fit(X, y)
    best = search.best_params_
    with pytest.raises(RuntimeError, match="no more"):
        search.set_callbacks(Fails()).fit(X[:50], y[:50])
    assert search.best_params_ is best

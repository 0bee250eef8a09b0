"""A search in MLflow: a run for the fit, and one for every candidate."""

import copy
import os
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.callback import FitCallback
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skhypergrad.model_selection  # noqa: F401  (SciPy sets warning filters when it is imported)
from skhypergrad import HypergradSearchCV, MLflowCallback, Real

# MLflow writes to the environment when it reports on its use
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
mlflow = pytest.importorskip("mlflow")

# MLflow uses what SQLAlchemy deprecates
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]

PAGE = Path(__file__).parents[1] / "doc" / "guide" / "reading_results.rst"
ALPHA = loguniform(1e-4, 1e4)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    pytest.importorskip("alembic")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def runs(database, monkeypatch, request):
    """A function that lists the runs of this test, those nested in others apart."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    client = mlflow.MlflowClient()
    experiment = client.create_experiment(request.node.name)

    def listed():
        found = client.search_runs([experiment], order_by=["attributes.start_time ASC"])
        nested = [run for run in found if "mlflow.parentRunId" in run.data.tags]
        return [run for run in found if run not in nested], nested

    yield listed
    assert mlflow.active_run() is None


@pytest.fixture(scope="module")
def diabetes():
    return load_diabetes(return_X_y=True)


def searched(grid=ALPHA, **settings):
    space = {"alpha": grid} if not isinstance(grid, dict) else grid
    return HypergradSearchCV(Ridge(), space, cv=3, **settings).set_callbacks(MLflowCallback())


def test_the_run_of_a_fit(runs, diabetes):
    search = searched().fit(*diabetes)
    ((run,), _) = runs()
    assert run.info.status == "FINISHED"
    assert run.data.params == {"best_alpha": str(search.best_params_["alpha"])}
    assert run.data.metrics["best_score"] == search.best_score_
    assert run.data.tags["status"] == search.status_
    assert run.data.tags["criterion"] == search.criterion_
    assert "best_so_far_" not in dir(search)


def test_the_steps_of_a_search(runs, diabetes):
    search = searched().fit(*diabetes)
    ((run,), _) = runs()
    for name in ("criterion", "gradient_norm"):
        history = mlflow.MlflowClient().get_metric_history(run.info.run_id, name)
        assert sorted(point.step for point in history) == list(range(1, 1 + len(search.trace_["criterion"])))
    values = [
        point.value
        for point in sorted(
            mlflow.MlflowClient().get_metric_history(run.info.run_id, "criterion"), key=lambda point: point.step
        )
    ]
    assert values == np.minimum.accumulate(search.trace_["criterion"]).tolist()


def test_every_candidate_has_a_nested_run(runs, diabetes):
    search = searched({"alpha": ALPHA, "fit_intercept": [True, False]}).fit(*diabetes)
    ((run,), nested) = runs()
    assert len(nested) == 2
    for row in nested:
        number = int(row.info.run_name.removeprefix("candidate "))
        assert row.data.tags["mlflow.parentRunId"] == run.info.run_id
        assert row.data.params == {k: str(v) for k, v in search.cv_results_["params"][number].items()}
        assert row.data.metrics == {
            name: search.cv_results_[name][number] for name in ("mean_test_score", "std_test_score")
        }
        assert row.info.status == "FINISHED"


def test_a_grid_of_lists_in_processes(runs, diabetes):
    search = searched({"alpha": np.logspace(-3, 3, 7)}, n_jobs=2).fit(*diabetes)
    ((run,), nested) = runs()
    assert len(nested) == 7, "there is no cap"
    assert "status" not in run.data.tags
    assert run.data.metrics == {"best_score": search.best_score_}


def test_several_scores_without_refit(runs, diabetes):
    searched({"alpha": [1.0, 2.0]}, scoring=["r2", "neg_mean_squared_error"], refit=False).fit(*diabetes)
    ((run,), nested) = runs()
    assert run.data.params == run.data.metrics == {}
    assert nested[0].data.metrics.keys() == {
        f"{what}_test_{score}" for what in ("mean", "std") for score in ("r2", "neg_mean_squared_error")
    }


def test_scikit_learns_own_search(runs, diabetes):
    GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}).set_callbacks(MLflowCallback()).fit(*diabetes)
    assert [len(found) for found in runs()] == [1, 2]


def test_the_active_run_is_taken_and_left_open(runs, diabetes):
    with mlflow.start_run() as active:
        searched().fit(*diabetes)
        assert mlflow.active_run().info.run_id == active.info.run_id
    ((run,), nested) = runs()
    assert run.info.run_id == active.info.run_id
    assert "best_score" in run.data.metrics
    assert len(nested) == 1


def test_a_second_fit_in_the_active_run_has_a_run_of_its_own(runs, diabetes):
    X, y = diabetes
    with mlflow.start_run() as active:
        searched().fit(X, y)
        searched().fit(X[::2], y[::2])
    ((run,), nested) = runs()
    assert run.info.run_id == active.info.run_id
    parents = [one.data.tags["mlflow.parentRunId"] for one in nested]
    (second,) = [one for one in nested if "best_score" in one.data.metrics]
    assert sorted(parents) == sorted([run.info.run_id] * 2 + [second.info.run_id])


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_every_fit_of_a_cross_validation_has_a_run(runs, diabetes, n_jobs):
    # processes inherit where to log
    get_reusable_executor().shutdown()
    found = cross_validate(searched(), *diabetes, cv=3, return_estimator=True, n_jobs=n_jobs)
    outer, nested = runs()
    assert {run.data.params["best_alpha"] for run in outer} == {
        str(s.best_params_["alpha"]) for s in found["estimator"]
    }
    assert len(outer) == len(nested) == 3


def test_a_search_within_a_search(runs, diabetes):
    GridSearchCV(searched(), {"estimator__fit_intercept": [True, False]}, cv=2).fit(*diabetes)
    outer, _ = runs()
    assert len(outer) == 5, "two candidates, two folds, and the refit"
    assert all("best_score" in run.data.metrics for run in outer)


def test_a_search_in_a_pipeline(runs, diabetes):
    make_pipeline(StandardScaler(), searched()).fit(*diabetes)
    assert [len(found) for found in runs()] == [1, 1]


def test_a_fit_that_fails(runs, diabetes):
    with pytest.raises(ValueError, match="must be positive"):
        searched(Real(-1, 1)).fit(*diabetes)
    ((run,), nested) = runs()
    assert run.info.status == "FAILED"
    assert not nested


def test_a_stopped_search(runs, diabetes):
    class Stop:
        def setup(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context):
            return context.task_name == "outer-step" and estimator.best_so_far_["evaluations"] == 3

        def teardown(self, estimator, context): ...

    search = searched().set_callbacks(Stop(), MLflowCallback())
    with pytest.warns(match="stopped from outside"):
        search.fit(*diabetes)
    ((run,), _) = runs()
    assert run.info.status == "FINISHED"
    assert run.data.tags["status"] == "interrupted"


def test_ctrl_c(runs, diabetes):
    class CtrlC(MLflowCallback):
        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            if context.task_name == "outer-step" and estimator.best_so_far_["evaluations"] == 3:
                raise KeyboardInterrupt

    search = searched().set_callbacks(CtrlC())
    with pytest.warns(match="stopped from outside"), pytest.raises(KeyboardInterrupt):
        search.fit(*diabetes)
    ((run,), nested) = runs()
    assert run.info.status == "FINISHED"
    assert run.data.tags["status"] == "interrupted"
    assert len(nested) == 1


def test_a_server_that_is_away_does_not_end_the_search(runs, diabetes, monkeypatch):
    search = searched()

    def away(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", away)
    with pytest.warns(match="could not log the search. ConnectionError: no route"):
        search.fit(*diabetes)
    assert search.converged_


def test_clones_share_it_and_pickles_forget_the_runs(runs, diabetes):
    search = searched()
    (callback,) = search._skl_callbacks
    assert isinstance(callback, FitCallback)
    assert clone(search)._skl_callbacks[0] is callback
    callback._fits[0] = "a run"
    assert pickle.loads(pickle.dumps(callback))._fits == {}
    del callback._fits[0]
    again = pickle.loads(pickle.dumps(search.fit(*diabetes)))
    copy.deepcopy(again).fit(*diabetes)
    assert len(runs()[0]) == 2
    assert callback._fits == {}


def test_mlflow_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match=r'pip install "skhypergrad\[mlflow\]"'):
        MLflowCallback()


def test_the_example_of_the_guide(runs):
    (code,) = (block for block in re.split(r"\n(?=\S)", PAGE.read_text()) if "MLflowCallback()" in block)
    exec("\n".join(line[3:] for line in code.splitlines() if line.startswith("   ")))
    assert [len(found) for found in runs()] == [1, 1]

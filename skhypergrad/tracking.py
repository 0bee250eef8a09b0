"""What a search does and finds, told to MLflow and to Optuna.

Neither is needed to search, and neither is imported before it is used.
"""

from __future__ import annotations

import importlib
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skhypergrad.adapters.space import split_all
from skhypergrad.bilevel.solution import elements
from skhypergrad.bilevel.space import Real

# Marks a run that a fit has been logged to: a second one would overwrite its metrics, and MLflow refuses other params.
FIT = "skhypergrad.fit"


@dataclass
class _Fit:
    """The run of one fit; `own` where it was started for it, `complete` when the fit has come to its end."""

    run_id: str
    experiment_id: str
    own: bool
    complete: bool = False


class MLflowCallback:
    """Log every fit of a search to MLflow: its steps while it runs, then what it found.

    A scikit-learn callback, for `search.set_callbacks`. `mlflow.set_tracking_uri` and `mlflow.set_experiment` say where to.

    Raises
    ------
    ImportError
        When MLflow is not installed.

    Notes
    -----
    A fit has one run: the active one if there is one, else a new one, which ends with the fit. Where a fit has been logged to
    the active run before, as in a cross-validation of the search, the next one has a run nested in it.

    While a continuous search runs, the metrics `criterion` and `gradient_norm` of the best point so far are logged; their
    step is the number of evaluations. At the end the run gets the best hyperparameters as params (`best_alpha`, ...), the
    metric `best_score`, and the tags `status` and `criterion` for how the search ended and what was descended. Every row of
    `cv_results_` becomes a nested run, with its hyperparameters as params, and mean and standard deviation of its test scores
    as metrics. All rows are logged, so a grid with many candidates makes many runs.

    A run that cannot be started is an error before anything is searched. What cannot be logged later is a warning, and the
    search goes on.

    Works on scikit-learn's own searches, too, which have no steps. Where whole fits take place in worker processes, as in
    `cross_validate(search, n_jobs=2)`, they are logged from there, to where MLflow's environment variables pointed when the
    processes were started; MLflow itself sets these variables in `set_tracking_uri` and `set_experiment`.

    Examples
    --------
    .. code-block:: python

        import mlflow
        mlflow.set_experiment("ridge")
        search = HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-4, 1e4)})
        search.set_callbacks(MLflowCallback()).fit(X, y)
    """

    def __init__(self):
        _imported("mlflow")
        self._fits = {}

    def __getstate__(self):
        # the keys are addresses, which mean something else in another process
        return {**self.__dict__, "_fits": {}}

    def setup(self, estimator, context):
        """Find or start the run of this fit."""
        mlflow = _imported("mlflow")
        client, active = mlflow.MlflowClient(), mlflow.active_run()
        taken = active is not None and FIT in client.get_run(active.info.run_id).data.tags
        own = active is None or taken
        run = mlflow.start_run(nested=taken) if own else active
        self._fits[id(estimator)] = _Fit(run.info.run_id, run.info.experiment_id, own)
        client.set_tag(run.info.run_id, FIT, str(context.root_uuid))

    def on_fit_task_begin(self, estimator, context):
        """Nothing."""

    def on_fit_task_end(self, estimator, context):
        """Log the best point so far after a step, and the results after the fit."""
        fit = self._fits.get(id(estimator))
        if fit is None:
            return
        if context.task_name == "outer-step":
            best = getattr(estimator, "best_so_far_", None)
            if best is not None:
                figures = {name: best[name] for name in ("criterion", "gradient_norm")}
                with _told():
                    _log(fit.run_id, metrics=figures, step=best["evaluations"])
        elif context.task_name == "fit":
            fit.complete = True
            with _told():
                self._log_results(estimator, fit)

    def teardown(self, estimator, context):
        """End the run, if it was started here."""
        fit = self._fits.pop(id(estimator), None)
        if fit is None or not fit.own:
            return
        mlflow, status = _imported("mlflow"), "FINISHED" if fit.complete else "FAILED"
        active = mlflow.active_run()
        if active is not None and active.info.run_id == fit.run_id:
            mlflow.end_run(status)
        else:
            # somebody's scorer has started another one and left it open
            mlflow.MlflowClient().set_terminated(fit.run_id, status)

    def _log_results(self, search, fit):
        client = _imported("mlflow").MlflowClient()
        best = {f"best_{name}": value for name, value in getattr(search, "best_params_", {}).items()}
        score = {"best_score": search.best_score_} if hasattr(search, "best_score_") else {}
        tags = {name: getattr(search, f"{name}_") for name in ("status", "criterion") if hasattr(search, f"{name}_")}
        _log(fit.run_id, params=best, metrics=score, tags=tags)
        results = getattr(search, "cv_results_", {"params": []})
        names = [name for name in results if name.startswith(("mean_test_", "std_test_"))]
        for row, params in enumerate(results["params"]):
            nested = client.create_run(
                fit.experiment_id, run_name=f"candidate {row}", tags={"mlflow.parentRunId": fit.run_id}
            )
            _log(nested.info.run_id, params=params, metrics={name: results[name][row] for name in names})
            client.set_terminated(nested.info.run_id)


def to_optuna_study(search, *, study=None):
    """The evaluations of a continuous search as the trials of an Optuna study, for Optuna's pictures and its dashboard.

    Parameters
    ----------
    search : HypergradSearchCV
        Fitted, with a `trace_`.
    study : optuna.study.Study, default=None
        Where to add the trials: one that minimises. None for a new one in memory.

    Returns
    -------
    optuna.study.Study
        With a completed trial for every evaluation that was solved, in their order. The value of a trial is the criterion,
        less being better, and its params have their full names. Continuous ones have a `FloatDistribution` over the interval
        of `param_grid`, or over all of its intervals together where it has several; an array is a param for each element,
        `alpha[0]`, `alpha[1]`, and so on. Listed ones have a `CategoricalDistribution` of their values, or of the `repr` of
        those whose type Optuna does not take. The attributes `gradient_norm`, `seconds` and `reason` are those of `trace_`,
        and `candidate` is the row of `cv_results_`.

    Raises
    ------
    ImportError
        When Optuna is not installed.
    ValueError
        When nothing was searched continuously, or the study does not minimise one value.

    Examples
    --------
    .. code-block:: python

        study = to_optuna_study(search)
        optuna.visualization.plot_slice(study)
    """
    optuna = _imported("optuna")
    check_is_fitted(search, "cv_results_")
    if not hasattr(search, "trace_"):
        raise ValueError("There is no trace_ to make trials of: nothing was searched continuously.")
    if study is None:
        study = optuna.create_study(direction="minimize")
    elif study.directions != [optuna.study.StudyDirection.MINIMIZE]:
        raise ValueError("The criterion is minimised: the study needs direction='minimize'.")
    distributions, intervals = _distributions(split_all(search.param_grid))
    trace, candidates = search.trace_, search.cv_results_["params"]
    solved = trace.get("solved", np.zeros(0, bool))
    # without the column there is one candidate
    rows = trace.get("candidate", np.zeros(len(solved), int))
    trials = []
    for i in np.flatnonzero(solved):
        params: dict[str, Any] = {}
        for name, value in candidates[rows[i]].items():
            if name in intervals:
                params |= {full: float(trace[full.rsplit("__", 1)[-1]][i]) for full in elements(name, np.size(value))}
            else:
                params[name] = _choice(value)
        attributes: dict[str, Any] = {name: float(trace[name][i]) for name in ("gradient_norm", "seconds")}
        attributes |= {"reason": str(trace["reason"][i]), "candidate": int(rows[i])}
        trials.append(
            optuna.trial.create_trial(
                params=params,
                distributions={name: distributions[name] for name in params},
                value=float(trace["criterion"][i]),
                user_attrs=attributes,
            )
        )
    study.add_trials(trials)
    return study


def _distributions(parts) -> tuple[dict, set]:
    """Optuna's distribution of every hyperparameter, the same for all trials, and the names of the continuous ones."""
    optuna = _imported("optuna")
    reals: dict[str, list[Real]] = {}
    choices: dict[str, list] = {}
    # grids without an interval have no evaluations
    searched = [(listed, continuous) for listed, continuous in parts if continuous]
    for listed, continuous in searched:
        for name, real in continuous.items():
            reals.setdefault(name, []).append(real)
        for name, values in listed.items():
            several = choices.setdefault(name, [])
            several += [choice for choice in map(_choice, values) if choice not in several]
    if both := sorted(reals.keys() & choices.keys()):
        raise ValueError(
            f"{both[0]!r} is an interval in one dict of param_grid and a list in another, and Optuna allows no such thing."
        )
    distributions = {name: optuna.distributions.CategoricalDistribution(values) for name, values in choices.items()}
    for name, boxes in reals.items():
        low, high = min(float(real.low) for real in boxes), max(float(real.high) for real in boxes)
        log = all(real.scale == "log" for real in boxes)
        for element in elements(name, max(real.size for real in boxes)):
            distributions[element] = optuna.distributions.FloatDistribution(low, high, log=log)
    return distributions, set(reals)


def _choice(value):
    """A listed value, or its repr where Optuna cannot keep it."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _log(run_id, params=None, metrics=None, tags=None, step=0):
    mlflow, now = _imported("mlflow"), int(time.time() * 1000)
    mlflow.MlflowClient().log_batch(
        run_id,
        metrics=[mlflow.entities.Metric(name, float(value), now, step) for name, value in (metrics or {}).items()],
        params=[mlflow.entities.Param(name, str(value)) for name, value in (params or {}).items()],
        tags=[mlflow.entities.RunTag(name, str(value)) for name, value in (tags or {}).items()],
    )


@contextmanager
def _told():
    """A failure to log is a warning: hours of search are not lost because a server is away."""
    try:
        yield
    except Exception as error:
        warnings.warn(f"MLflow could not log the search. {type(error).__name__}: {error}", stacklevel=3)


def _imported(name: str) -> Any:
    """An optional package, or the sentence that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f'This needs {name}: pip install "skhypergrad[{name}]".') from error

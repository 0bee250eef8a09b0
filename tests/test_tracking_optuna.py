"""A search as an Optuna study: every evaluation a trial."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import skhypergrad.model_selection  # noqa: F401  (SciPy sets warning filters when it is imported)
from skhypergrad import HypergradSearchCV, Real, one_standard_error, to_optuna_study

optuna = pytest.importorskip("optuna")

PAGE = Path(__file__).parents[1] / "doc" / "guide" / "reading_results.rst"
ALPHA = loguniform(1e-4, 1e4)


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def diabetes():
    return load_diabetes(return_X_y=True)


@pytest.fixture(scope="module")
def ridge(diabetes):
    return HypergradSearchCV(Ridge(), {"alpha": ALPHA}, cv=3).fit(*diabetes)


def test_every_solved_evaluation_is_a_trial(ridge):
    study = to_optuna_study(ridge)
    solved = ridge.trace_["solved"]
    assert [trial.value for trial in study.trials] == ridge.trace_["criterion"][solved].tolist()
    assert [trial.params for trial in study.trials] == [{"alpha": a} for a in ridge.trace_["alpha"][solved]]
    assert {trial.state for trial in study.trials} == {optuna.trial.TrialState.COMPLETE}
    assert study.trials[0].distributions == {"alpha": optuna.distributions.FloatDistribution(1e-4, 1e4, log=True)}
    last = study.trials[-1].user_attrs
    assert last == {name: ridge.trace_[name][-1] for name in ("gradient_norm", "seconds", "reason")} | {"candidate": 0}


def test_the_best_trial_is_the_best_candidate(ridge):
    assert to_optuna_study(ridge).best_params == ridge.best_params_


def test_listed_values_and_names_with_a_prefix(diabetes):
    scaler = StandardScaler()
    grid = {
        "scale": ["passthrough", scaler],
        "ridge__alpha": ALPHA,
        "ridge__fit_intercept": np.array([True, False]),
    }
    model = Pipeline([("scale", None), ("ridge", Ridge())])
    search = HypergradSearchCV(model, grid, cv=3).fit(*diabetes)
    study = to_optuna_study(search)
    assert study.trials[0].distributions == {
        "ridge__alpha": optuna.distributions.FloatDistribution(1e-4, 1e4, log=True),
        "ridge__fit_intercept": optuna.distributions.CategoricalDistribution([True, False]),
        "scale": optuna.distributions.CategoricalDistribution(["passthrough", "StandardScaler()"]),
    }
    assert {trial.user_attrs["candidate"] for trial in study.trials} == {0, 1, 2, 3}
    for trial in study.trials:
        row = search.cv_results_["params"][trial.user_attrs["candidate"]]
        assert trial.params["ridge__fit_intercept"] == row["ridge__fit_intercept"]
        assert trial.params["scale"] == (row["scale"] if isinstance(row["scale"], str) else "StandardScaler()")


def test_an_array_is_a_param_for_each_element(diabetes):
    X, y = diabetes
    search = HypergradSearchCV(Ridge(), {"alpha": Real(1e-2, 1e2, shape=(2,))}, cv=3).fit(X, np.c_[y, y[::-1]])
    trial = to_optuna_study(search).trials[-1]
    assert trial.params == {f"alpha[{i}]": search.trace_[f"alpha[{i}]"][-1] for i in range(2)}
    assert trial.distributions["alpha[1]"] == optuna.distributions.FloatDistribution(1e-2, 1e2, log=True)


def test_several_grids_share_a_distribution_and_lists_have_no_trials(diabetes):
    grid = [
        {"alpha": [0.5, 5.0]},
        {"alpha": uniform(0, 1), "fit_intercept": [True]},
        {"alpha": loguniform(0.5, 100), "fit_intercept": [False]},
    ]
    search = HypergradSearchCV(Ridge(), grid, cv=3).fit(*diabetes)
    study = to_optuna_study(search)
    assert len(study.trials) == search.trace_["solved"].sum()
    assert {trial.user_attrs["candidate"] for trial in study.trials} == {2, 3}
    for trial in study.trials:
        assert trial.distributions["alpha"] == optuna.distributions.FloatDistribution(0, 100)
        assert trial.params["fit_intercept"] == (trial.user_attrs["candidate"] == 2)


def test_one_search_behind_listed_candidates(diabetes):
    grid = [{"alpha": [0.5, 5.0]}, {"alpha": ALPHA, "fit_intercept": [False]}]
    search = HypergradSearchCV(Ridge(), grid, cv=3).fit(*diabetes)
    assert all(trial.params["fit_intercept"] is False for trial in to_optuna_study(search).trials)
    assert all(trial.user_attrs["candidate"] == 2 for trial in to_optuna_study(search).trials)


def test_two_estimators():
    X, y = load_iris(return_X_y=True)
    model = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    grid = [
        {"model": [LogisticRegression()], "model__C": ALPHA},
        {"scale": ["passthrough"], "model__C": loguniform(1e-2, 1e2)},
    ]
    search = HypergradSearchCV(model, grid, cv=3, scoring="neg_log_loss").fit(X, y)
    study = to_optuna_study(search)
    assert {frozenset(trial.params) for trial in study.trials} == {
        frozenset({"model", "model__C"}),
        frozenset({"scale", "model__C"}),
    }


def test_both_rows_of_one_standard_error(diabetes):
    search = HypergradSearchCV(Ridge(), {"alpha": ALPHA}, refit=one_standard_error("alpha"), cv=3).fit(*diabetes)
    trials = to_optuna_study(search).trials
    assert {trial.user_attrs["candidate"] for trial in trials} == set(range(len(search.cv_results_["params"])))


def test_a_study_is_added_to(ridge):
    study = optuna.create_study()
    assert to_optuna_study(ridge, study=study) is study
    assert len(to_optuna_study(ridge, study=study).trials) == 2 * ridge.trace_["solved"].sum()


def test_a_study_on_disk(ridge, tmp_path):
    pytest.importorskip("sqlalchemy")
    name = f"sqlite:///{tmp_path}/study.db"
    to_optuna_study(ridge, study=optuna.create_study(storage=name, study_name="ridge"))
    assert optuna.load_study(storage=name, study_name="ridge").best_params == ridge.best_params_


def test_what_makes_no_study(ridge, diabetes):
    with pytest.raises(NotFittedError):
        to_optuna_study(HypergradSearchCV(Ridge(), {"alpha": ALPHA}))
    with pytest.raises(ValueError, match="nothing was searched continuously"):
        to_optuna_study(HypergradSearchCV(Ridge(), {"alpha": [1.0]}).fit(*diabetes))
    for study in (optuna.create_study(direction="maximize"), optuna.create_study(directions=["minimize", "minimize"])):
        with pytest.raises(ValueError, match="direction='minimize'"):
            to_optuna_study(ridge, study=study)


def test_optuna_is_missing(ridge, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ImportError, match=r'pip install "skhypergrad\[optuna\]"'):
        to_optuna_study(ridge)


def test_the_example_of_the_guide():
    (code,) = (block for block in re.split(r"\n(?=\S)", PAGE.read_text()) if "to_optuna_study(search)" in block)
    exec("\n".join(line[3:] for line in code.splitlines() if line.startswith("   ")))

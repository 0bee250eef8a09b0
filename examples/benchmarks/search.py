"""Race HypergradSearchCV against GridSearchCV, both over [1e-4, 1e4], by the time of a whole `fit`.

    python examples/benchmarks/search.py                  all sets: time with 20 grid values, n_jobs=2 for the grid
    python examples/benchmarks/search.py --check          all sets: best score against 60 grid values, tight solvers
    python examples/benchmarks/search.py --tight          as the first, with fits that are run to convergence
    python examples/benchmarks/search.py digits madelon   some sets

With its default tolerance LogisticRegression stops before the optimum, the more so the weaker the penalty, so that a grid
of such fits is faster and its scores are those of unfinished fits; --tight compares at equal quality.

Every set runs in a process of its own. Cold is the first fit there, compilation included; warm fits and grid fits are
interleaved, and their medians are compared, so that a drifting machine moves both. Bundled sets always run; larger ones
where the environment variable SKHYPERGRAD_DATA names the folder that has them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import loguniform
from sklearn import datasets
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, PolynomialFeatures, StandardScaler

from skhypergrad import HypergradSearchCV

LOW, HIGH = 1e-4, 1e4
DATA = os.environ.get("SKHYPERGRAD_DATA")


def load(name):
    spec = importlib.util.spec_from_file_location("load", Path(DATA) / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name)


def table(name, target):
    import pandas as pd

    frame = pd.DataFrame(load(name))
    return frame.drop(columns=target), frame[target].to_numpy(float)


def mixed(*numeric):
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
        remainder=make_pipeline(SimpleImputer(strategy="median"), *numeric),
    )


def news(*groups):
    chosen = [d for d in load("20newsgroups_bydate") if d["split"] == "train" and d["label"] in groups]
    return [d["text"] for d in chosen], np.array([d["label"] for d in chosen])


def texts(name):
    rows = load(name)
    return [row["text"] for row in rows], np.array([row["label"] for row in rows])


def cells(name):
    part = load(name)
    return np.asarray(part["X"], float), part["y"]


def a9a():
    part = load("a9a")
    return part["X"][:32561].astype(float), np.asarray(part["y"][:32561], float)


# name: (data, estimator without its solver, scoring)
BUNDLED = {
    "diabetes": (lambda: datasets.load_diabetes(return_X_y=True), make_pipeline(StandardScaler(), Ridge()), "r2"),
    "breast_cancer": (
        lambda: datasets.load_breast_cancer(return_X_y=True),
        make_pipeline(StandardScaler(), LogisticRegression()),
        "neg_log_loss",
    ),
    "digits": (
        lambda: datasets.load_digits(return_X_y=True),
        make_pipeline(MinMaxScaler(), LogisticRegression()),
        "neg_log_loss",
    ),
    "digits_ridge": (
        lambda: datasets.load_digits(return_X_y=True),
        make_pipeline(MinMaxScaler(), RidgeClassifier()),
        "accuracy",
    ),
}
LARGER = {
    "20news_2": (
        lambda: news("rec.sport.baseball", "rec.sport.hockey"),
        make_pipeline(TfidfVectorizer(), LogisticRegression()),
        "neg_log_loss",
    ),
    "20news_4": (
        lambda: news("comp.graphics", "rec.autos", "sci.med", "talk.politics.misc"),
        make_pipeline(TfidfVectorizer(), LogisticRegression()),
        "neg_log_loss",
    ),
    "subjectivity": (
        lambda: texts("subjectivity"),
        make_pipeline(TfidfVectorizer(), LogisticRegression()),
        "neg_log_loss",
    ),
    "sms_spam": (
        lambda: texts("sms_spam"),
        make_pipeline(TfidfVectorizer(), LogisticRegression()),
        "neg_log_loss",
    ),
    "a9a": (a9a, LogisticRegression(), "neg_log_loss"),
    "california_housing": (
        lambda: table("california_housing", "median_house_value"),
        make_pipeline(mixed(StandardScaler()), Ridge()),
        "neg_mean_squared_error",
    ),
    "leukemia": (
        lambda: cells("leukemia_golub"),
        make_pipeline(StandardScaler(), LogisticRegression()),
        "neg_log_loss",
    ),
    "srbct": (
        lambda: cells("srbct_khan"),
        make_pipeline(StandardScaler(), LogisticRegression()),
        "neg_log_loss",
    ),
    "elevators": (
        lambda: cells("uci_elevators"),
        make_pipeline(StandardScaler(), Ridge()),
        "neg_mean_squared_error",
    ),
    "gas": (lambda: cells("uci_gas"), make_pipeline(StandardScaler(), Ridge()), "neg_mean_squared_error"),
    "madelon": (lambda: cells("madelon"), make_pipeline(StandardScaler(), LogisticRegression()), "neg_log_loss"),
    "diamonds": (
        lambda: table("diamonds", "price"),
        make_pipeline(mixed(StandardScaler(), PolynomialFeatures(2, include_bias=False)), Ridge()),
        "r2",
    ),
    "riboflavin": (lambda: cells("riboflavin"), Ridge(), "neg_mean_squared_error"),
}
SETS = {**BUNDLED, **(LARGER if DATA else {})}


def build(name, tight):
    """Data, estimator, the name of its hyperparameter, scoring and shuffled folds."""
    data, estimator, scoring = SETS[name]
    X, y = data()
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    if isinstance(last, LogisticRegression):
        # lbfgs with a tolerance on the gradient is far from the optimum where features are many and penalties weak
        last.set_params(**({"solver": "newton-cg", "tol": 1e-10, "max_iter": 1_000} if tight else {"max_iter": 2_000}))
    prefix = f"{estimator.steps[-1][0]}__" if hasattr(estimator, "steps") else ""
    parameter = prefix + ("C" if isinstance(last, LogisticRegression) else "alpha")
    folds = KFold if isinstance(last, Ridge) else StratifiedKFold
    return X, y, estimator, parameter, scoring, folds(5, shuffle=True, random_state=0)


def timed(search, X, y):
    # joblib goes on cleaning up for a moment after a parallel search
    time.sleep(0.5)
    began = time.perf_counter()
    search.fit(X, y)
    return time.perf_counter() - began


def race(name, repeats, values, tight):
    """One set, in this process: a dict of seconds and scores."""
    X, y, estimator, parameter, scoring, cv = build(name, tight)
    grid = GridSearchCV(
        estimator, {parameter: np.geomspace(LOW, HIGH, values)}, scoring=scoring, cv=cv, n_jobs=2, error_score="raise"
    )
    ours = HypergradSearchCV(
        estimator, {parameter: loguniform(LOW, HIGH)}, scoring=scoring, cv=cv, n_jobs=2, error_score="raise"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cold = timed(ours, X, y)
        warm, grids = [], []
        for _ in range(repeats):
            grids.append(timed(grid, X, y))
            warm.append(timed(ours, X, y))
    return {
        "name": name,
        "cold": cold,
        "warm": float(np.median(warm)),
        "grid": float(np.median(grids)),
        "search": float(ours.trace_["seconds"][-1]),
        "evaluations": len(ours.trace_["seconds"]),
        "ours": float(ours.best_score_),
        "best": float(grid.best_score_),
        "status": ours.status_,
        "value": ours.best_params_[parameter],
        "grid_value": float(grid.best_params_[parameter]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help="default: all")
    parser.add_argument(
        "--check", action="store_true", help="60 grid values and tight solvers, once: scores only matter"
    )
    parser.add_argument("--tight", action="store_true", help="run scikit-learn's logistic fits to convergence")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.sets) - set(SETS):
        parser.error(f"no set called {', '.join(sorted(unknown))}; there are {', '.join(SETS)}")
    values, repeats = (60, 1) if options.check else (20, options.repeats)
    if options.one:
        print(json.dumps(race(options.one, repeats, values, options.tight)))
        return
    print(f"{'set':20}{'grid s':>9}{'warm s':>9}{'cold s':>9}{'warm x':>8}{'cold x':>8}{'evals':>7}", end="")
    print(f"{'ours':>16}{'grid':>16}  difference / |grid|")
    ratios, worse = [], []
    for name in options.sets or SETS:
        command = [sys.executable, __file__, "--one", name, "--repeats", str(repeats)]
        command += ["--check"] * options.check + ["--tight"] * (options.tight or options.check)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name:20} failed\n{done.stderr}")
            sys.exit(1)
        row = json.loads(done.stdout.splitlines()[-1])
        relative = (row["ours"] - row["best"]) / abs(row["best"])
        print(
            f"{name:20}{row['grid']:9.2f}{row['warm']:9.2f}{row['cold']:9.2f}{row['grid'] / row['warm']:8.1f}"
            f"{row['grid'] / row['cold']:8.1f}{row['evaluations']:7d}{row['ours']:16.8g}{row['best']:16.8g}  "
            f"{relative:+.1e}  {row['status']} at {row['value']:.4g}",
            flush=True,
        )
        ratios.append((row["grid"] / row["warm"], row["grid"] / row["cold"]))
        if relative < -1e-6:
            worse.append(name)
    warm, cold = np.exp(np.mean(np.log(ratios), axis=0))
    print(f"geometric mean: {warm:.1f}x warm, {cold:.1f}x cold over {len(ratios)} sets, {values} grid values")
    print(f"worse than the grid by more than 1e-6: {', '.join(worse) or 'none'}")


if __name__ == "__main__":
    main()

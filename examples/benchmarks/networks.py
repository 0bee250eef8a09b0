"""Race networks that tune themselves against a grid of scikit-learn's, 5 learning rates x 5 penalties, 3 folds, n_jobs=2.

    python examples/benchmarks/networks.py                    digits, and the larger sets
    python examples/benchmarks/networks.py --repeats 1 digits

The grid's score is the mean of its best candidate's over the three folds. Ours is trained three times, each fold's test rows
held out once, and its score is the mean over the same rows; its time is the mean of the three, each trained a second time so
that nothing is compiled. This is done from several starting learning rates, which should make no difference. Larger sets run
where the environment variable SKHYPERGRAD_DATA names the folder that has them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from skhypergrad import BilevelMLPClassifier, BilevelMLPRegressor

DATA = os.environ.get("SKHYPERGRAD_DATA")
RATES, ALPHAS = np.geomspace(1e-4, 1, 5), np.geomspace(1e-6, 1, 5)
STARTS = (1e-5, 1e-3, 1.0)


def load(name):
    spec = importlib.util.spec_from_file_location("load", Path(DATA) / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name)


def digits():
    X, y = datasets.load_digits(return_X_y=True)
    return X / 16, y


def mnist():
    part = load("mnist_10k_10k")
    return np.asarray(part["X_train"], float).reshape(-1, 784) / 255, part["y_train"]


def california():
    import pandas as pd

    frame = pd.DataFrame(load("california_housing")).dropna().select_dtypes("number")
    y = frame.pop("median_house_value").to_numpy(float)
    return StandardScaler().fit_transform(frame), (y - y.mean()) / y.std()


SETS = {"digits": digits, **({"california_housing": california, "mnist_10k": mnist} if DATA else {})}


def race(name, repeats):
    X, y = SETS[name]()
    is_class = np.unique(y).size < 100
    theirs, ours = (MLPClassifier, BilevelMLPClassifier) if is_class else (MLPRegressor, BilevelMLPRegressor)
    folds = (StratifiedKFold if is_class else KFold)(3, shuffle=True, random_state=0)
    grid = GridSearchCV(
        theirs(random_state=0), {"learning_rate_init": RATES, "alpha": ALPHAS}, cv=folds, n_jobs=2,
        scoring=None if is_class else "neg_mean_squared_error",
    )  # fmt: skip
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        grid.fit(X, y)
        seconds.append(time.perf_counter() - began)
    print(
        f"{name:20} grid: {np.median(seconds):8.2f} s, score {grid.best_score_:.4f} at {grid.best_params_}", flush=True
    )
    for rate in STARTS:
        scores, times, colds = [], [], []
        for train, test in folds.split(X, y):
            model = ours(learning_rate_init=rate, random_state=0)
            began = time.perf_counter()
            model.fit(X[train], y[train], X_val=X[test], y_val=y[test])
            colds.append(time.perf_counter() - began)
            began = time.perf_counter()
            model.fit(X[train], y[train], X_val=X[test], y_val=y[test])
            times.append(time.perf_counter() - began)
            scores.append(model.validation_score_)
        print(
            f"{'':20} ours: {np.mean(times):8.2f} s (first {colds[0]:.2f} s), score {np.mean(scores):.4f} from a learning "
            f"rate of {rate:g}: {np.median(seconds) / np.mean(times):.0f}x",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"
        for name in options.sets or SETS:
            race(name, options.repeats)


if __name__ == "__main__":
    main()

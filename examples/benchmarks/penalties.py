"""Penalties for each feature, and their peers: test error and seconds of a whole fit, on real and synthetic tables.

    python examples/benchmarks/penalties.py                        all sets
    python examples/benchmarks/penalties.py --splits 1 diabetes    some sets, one split of each

A third of the rows of every real set is held out, three times; the synthetic ones are drawn three times with 2,000 test
rows: neighbouring features have a correlation of 0.6, the relevant ones a coefficient of +1 or -1, and the signal is ten
times the noise. Errors are squared errors or log losses, divided by that of the best common penalty (RidgeCV,
LogisticRegressionCV); the table has their geometric means over the splits, and the worst. Seconds are those of a second
fit. Optuna and sparho take part where they are installed: Optuna with a common penalty and as many trials as ours with
one penalty has evaluations, sparho with a weighted lasso and 30 steps of its HOAG. Larger sets run where SKHYPERGRAD_DATA
names the folder that has them. What a hypergradient costs with one penalty and with 10,000 is in hypergradients.py.
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
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    LassoCV,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
)
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from skhypergrad import BilevelLogisticRegression, BilevelRidge

DATA = os.environ.get("SKHYPERGRAD_DATA")
GRID = np.geomspace(1e-6, 1e6, 50)
TEST_ROWS = 2000


def load(name):
    spec = importlib.util.spec_from_file_location("load", Path(DATA) / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name)


def california():
    import pandas as pd

    frame = pd.DataFrame(load("california_housing")).dropna().select_dtypes("number").sample(4000, random_state=0)
    y = frame.pop("median_house_value").to_numpy(float)
    return PolynomialFeatures(2, include_bias=False).fit_transform(StandardScaler().fit_transform(frame)), y


def prostate():
    part = load("prostate_lpsa")
    return np.column_stack([part[k] for k in part if k not in ("lpsa", "train")]).astype(float), part["lpsa"]


def cells(name):
    return lambda: (np.asarray(load(name)["X"], float), load(name)["y"])


def elevators():
    part = load("uci_elevators")
    return np.asarray(part["X"][:3000], float), np.asarray(part["y"][:3000], float)


def synthetic(n, p, relevant):
    def draw(seed):
        rng = np.random.RandomState(seed)
        X = rng.normal(size=(n + TEST_ROWS, p))
        for j in range(1, p):
            X[:, j] = 0.6 * X[:, j - 1] + 0.8 * X[:, j]
        beta = np.zeros(p)
        beta[rng.choice(p, relevant, replace=False)] = rng.choice([-1, 1], relevant)
        noise = rng.normal(size=len(X))
        y = X @ beta
        y += noise * np.linalg.norm(y) / np.linalg.norm(noise) / 10
        return X[:n], X[n:], y[:n], y[n:]

    return draw


REAL = {
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
    **(
        {"california": california, "prostate": prostate, "elevators": elevators, "riboflavin": cells("riboflavin")}
        if DATA
        else {}
    ),
}
CLASSES = {
    "breast_cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    **({"madelon": cells("madelon"), "leukemia": cells("leukemia_golub")} if DATA else {}),
}
SYNTHETIC = {
    "100 features, 50 rows, 5 relevant": synthetic(50, 100, 5),
    "300 features, 150 rows, 15 relevant": synthetic(150, 300, 15),
    "1000 features, 500 rows, 50 relevant": synthetic(500, 1000, 50),
}


def split(name, seed):
    if name in SYNTHETIC:
        return SYNTHETIC[name](seed)
    X, y = {**REAL, **CLASSES}[name]()
    parts = train_test_split(X, y, test_size=1 / 3, random_state=seed, stratify=y if name in CLASSES else None)
    scaler = StandardScaler().fit(parts[0])
    y, y_test = parts[2:] if name in CLASSES else (part / np.std(parts[2]) for part in parts[2:])
    return scaler.transform(parts[0]), scaler.transform(parts[1]), y, y_test


def tuned_by_optuna(trials, cls, name, scoring):
    import optuna

    class Tuned(cls):
        def fit(self, X, y):
            def objective(trial):
                value = trial.suggest_float(name, 1e-6, 1e6, log=True)
                return cross_val_score(cls(**{name: value}), X, y, scoring=scoring).mean()

            optuna.logging.set_verbosity(optuna.logging.ERROR)
            study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
            study.optimize(objective, n_trials=trials)
            return self.set_params(**study.best_params)._fit(X, y)

        def _fit(self, X, y):
            return super().fit(X, y)

    return Tuned()


class WeightedLasso:
    """sparho's: a weight for each feature, begun at the lasso's."""

    def fit(self, X, y):
        import sparho
        from sparho.adapters import SklearnWeightedLasso

        self.center = X.mean(axis=0), y.mean()
        X, y = X - self.center[0], y - self.center[1]
        problem = sparho.Problem(sparho.SquaredLoss(), sparho.WeightedL1(), X, y)
        begin = np.full(X.shape[1], LassoCV().fit(X, y).alpha_)
        cv = sparho.CrossVal.kfold(len(X), k=5, warm_start=True)
        self.coef_ = sparho.hoag_search(
            problem, begin, solver=SklearnWeightedLasso(), criterion=cv, n_iter=30
        ).best_coef
        return self

    def predict(self, X):
        return (X - self.center[0]) @ self.coef_ + self.center[1]


def installed(name):
    return importlib.util.find_spec(name) is not None


def models(name, trials):
    """By name; the first is what errors are divided by, the second is ours with one penalty."""
    if name in CLASSES:
        found = {
            "LogisticRegressionCV": LogisticRegressionCV(
                Cs=np.geomspace(1e-4, 1e4, 20), scoring="neg_log_loss", max_iter=2000, use_legacy_attributes=False
            ),
            "ours, one": BilevelLogisticRegression(),
            "ours, each": BilevelLogisticRegression(groups="features"),
        }
        if installed("optuna"):
            found["optuna"] = tuned_by_optuna(trials, LogisticRegression, "C", "neg_log_loss")
        return found
    found = {
        "RidgeCV": RidgeCV(GRID),
        "ours, one": BilevelRidge(),
        "ours, each": BilevelRidge(groups="features"),
        "ours, each, loo": BilevelRidge(groups="features", cv="loo"),
        "BayesianRidge": BayesianRidge(),
        "ARDRegression": ARDRegression(),
        "LassoCV": LassoCV(),
    }
    if installed("optuna"):
        found["optuna"] = tuned_by_optuna(trials, Ridge, "alpha", "neg_mean_squared_error")
    if installed("sparho"):
        found["sparho"] = WeightedLasso()
    return found


def race(name, seed):
    """{model: (test loss, seconds)}."""
    X, X_test, y, y_test = split(name, seed)
    rows, trials = {}, 10
    for label in models(name, trials):
        model = models(name, trials)[label]
        if label.startswith("ours"):
            # compiled once; fitted again below
            model.fit(X, y)
            trials = model.n_iter_ if label == "ours, one" else trials
        began = time.perf_counter()
        model.fit(X, y)
        seconds = time.perf_counter() - began
        if name in CLASSES:
            rows[label] = log_loss(y_test, model.predict_proba(X_test)), seconds
        else:
            rows[label] = mean_squared_error(y_test, model.predict(X_test)), seconds
    return rows


def main():
    names = [*REAL, *SYNTHETIC, *CLASSES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help="default: all")
    parser.add_argument("--splits", type=int, default=3)
    options = parser.parse_args()
    if unknown := set(options.sets) - set(names):
        parser.error(f"no set called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    warnings.simplefilter("ignore")
    for name in options.sets or names:
        runs = [race(name, seed) for seed in range(options.splits)]
        unit = [next(iter(run.values()))[0] for run in runs]
        print(f"\n{name}\n{'':22}{'error':>8}{'worst':>8}{'seconds':>9}")
        for label in runs[0]:
            relative = np.array([run[label][0] for run in runs]) / unit
            seconds = np.median([run[label][1] for run in runs])
            print(f"{label:22}{np.exp(np.mean(np.log(relative))):8.3f}{relative.max():8.3f}{seconds:9.2f}", flush=True)


if __name__ == "__main__":
    main()

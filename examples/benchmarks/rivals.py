"""Race the search and its estimators against everything else that tunes a linear model, by the time of a whole `fit`.

    python examples/benchmarks/rivals.py                  all races
    python examples/benchmarks/rivals.py ridge_cv         some races
    python examples/benchmarks/rivals.py --plot FILE      and draw them
    python examples/benchmarks/rivals.py --scaling        rows, features, folds and hyperparameters, one after the other
    python examples/benchmarks/rivals.py --phases         where the time of a warm search goes

Every race runs in a process of its own. Cold is the first fit there, compilation included; warm fits and the rival's are
interleaved, and medians are compared. Both are judged by the same cross-validated criterion of what they return, computed
by scikit-learn with converged fits: "loss" is ours and the rival's. "peak" is what the memory of the process grew by in the
first fit, compilation included. Optuna's search takes part where it is installed, with the number of trials that ours had
evaluations. Synthetic tables have the shapes that are named; bundled sets do the rest. search.py has the races against
GridSearchCV on real data.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import resource
import subprocess
import sys
import time
import warnings

import numpy as np
from scipy.stats import loguniform
from sklearn import datasets
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhypergrad import BilevelLogisticRegression, HypergradSearchCV, Real

GRID = np.geomspace(1e-4, 1e4, 20)
WIDE = loguniform(1e-4, 1e4)
REPEATS = 5


def table(n, p, targets=1, seed=0):
    """Correlated features, an exponential spectrum, noise as long as the signal."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.geomspace(1, 0.03, p) @ np.linalg.qr(rng.normal(size=(p, p)))[0]
    signal = X @ rng.normal(size=(p, targets))
    y = signal + rng.normal(size=signal.shape) * signal.std(axis=0)
    return X, y[:, 0] if targets == 1 else y


def labelled(n, p):
    X, y = table(n, p)
    return X, (y > 0).astype(int)


def scaled(model):
    return make_pipeline(StandardScaler(), model)


def searches(estimator, name, X, y, scoring, folds, rival=GridSearchCV, **options):
    """Ours and a search of scikit-learn's over 20 values."""
    common = {"scoring": scoring, "cv": folds, "n_jobs": 2}
    return (
        HypergradSearchCV(estimator, {name: WIDE}, **common),
        rival(estimator, {name: GRID}, **common, **options),
        X,
        y,
    )


FIVE = KFold(5, shuffle=True, random_state=0)
STRATIFIED = StratifiedKFold(5, shuffle=True, random_state=0)
MSE, LOG_LOSS = "neg_mean_squared_error", "neg_log_loss"


def ridge_grid():
    return searches(scaled(Ridge()), "ridge__alpha", *table(20_000, 300), MSE, FIVE)


def ridge_cv():
    X, y = table(20_000, 300)
    return HypergradSearchCV(Ridge(), {"alpha": WIDE}, scoring=MSE, cv=FIVE), RidgeCV(GRID), X, y


def logistic_grid():
    return searches(
        scaled(LogisticRegression(max_iter=1000)), "logisticregression__C", *labelled(5000, 300), LOG_LOSS, STRATIFIED
    )


def logistic_cv():
    X, y = labelled(5000, 300)
    rival = LogisticRegressionCV(
        Cs=GRID, l1_ratios=(0,), cv=STRATIFIED, scoring=LOG_LOSS, max_iter=1000, n_jobs=2, use_legacy_attributes=False
    )
    return HypergradSearchCV(LogisticRegression(), {"C": WIDE}, scoring=LOG_LOSS, cv=STRATIFIED), rival, X, y


def halving():
    return searches(
        scaled(LogisticRegression(max_iter=1000)),
        "logisticregression__C",
        *labelled(5000, 300),
        LOG_LOSS,
        STRATIFIED,
        HalvingGridSearchCV,
    )


def optuna_search():
    import optuna
    from optuna.integration import OptunaSearchCV

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    X, y = labelled(5000, 300)
    estimator, name = scaled(LogisticRegression(max_iter=1000)), "logisticregression__C"
    spaces = {name: optuna.distributions.FloatDistribution(1e-4, 1e4, log=True)}
    rival = OptunaSearchCV(estimator, spaces, n_trials=12, scoring=LOG_LOSS, cv=STRATIFIED, n_jobs=2, random_state=0)
    return HypergradSearchCV(estimator, {name: WIDE}, scoring=LOG_LOSS, cv=STRATIFIED), rival, X, y


def two_hyperparameters(n=2000, p=50):
    """A penalty for each of two targets; a grid has 20 x 20 pairs of them."""
    X, y = table(n, p, targets=2)
    pairs = [np.array([a, b]) for a in GRID for b in GRID]
    common = {"scoring": MSE, "cv": FIVE, "n_jobs": 2}
    ours = HypergradSearchCV(Ridge(), {"alpha": Real(1e-4, 1e4, shape=(2,))}, **common)
    return ours, GridSearchCV(Ridge(), {"alpha": pairs}, **common), X, y


def wide_logistic():
    return searches(
        scaled(LogisticRegression(max_iter=1000)), "logisticregression__C", *labelled(72, 7129), LOG_LOSS, STRATIFIED
    )


def wide_ridge():
    return searches(scaled(Ridge()), "ridge__alpha", *table(71, 4088), MSE, FIVE)


def small():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return searches(scaled(LogisticRegression()), "logisticregression__C", X, y, LOG_LOSS, STRATIFIED)


RACES = {
    "ridge_grid": ridge_grid,
    "ridge_cv": ridge_cv,
    "wide_ridge": wide_ridge,
    "logistic_grid": logistic_grid,
    "logistic_cv": logistic_cv,
    "halving": halving,
    **({"optuna": optuna_search} if importlib.util.find_spec("optuna_integration") else {}),
    "wide_logistic": wide_logistic,
    "two_hyperparameters": two_hyperparameters,
    "two_with_more_rows": functools.partial(two_hyperparameters, 20_000, 100),
    "small": small,
}


def timed(model, X, y):
    # joblib goes on cleaning up for a moment after a parallel search
    time.sleep(0.5)
    model = clone(model)
    began = time.perf_counter()
    model.fit(X, y)
    return time.perf_counter() - began, model


def loss_of(model, ours, X, y):
    """What ours descends, of the values that a model chose."""
    estimator = clone(ours.estimator)
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    if isinstance(last, LogisticRegression):
        last.set_params(solver="newton-cg", tol=1e-10, max_iter=1000)
    (name,) = ours.param_grid
    if hasattr(model, "best_params_"):
        value = model.best_params_[name]
    else:
        value = float(np.ravel(getattr(model, "C_", getattr(model, "alpha_", None)))[0])
    return -cross_val_score(estimator.set_params(**{name: value}), X, y, scoring=ours.scoring, cv=ours.cv).mean()


def peak():
    """The largest memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def race(name):
    ours, rival, X, y = RACES[name]()
    before = peak()
    cold, _ = timed(ours, X, y)
    memory = peak() - before
    warm, other = [], []
    slow = 0.0
    for _ in range(REPEATS):
        if slow < 60:
            seconds, theirs = timed(rival, X, y)
            other.append(seconds)
            slow += seconds
        seconds, found = timed(ours, X, y)
        warm.append(seconds)
    return {
        "rows": X.shape[0],
        "features": X.shape[1],
        "rival": float(np.median(other)),
        "warm": float(np.median(warm)),
        "cold": cold,
        "memory": memory,
        "table": X.nbytes / 2**20,
        "ours_loss": loss_of(found, ours, X, y),
        "rival_loss": loss_of(theirs, ours, X, y),
    }


def many_penalties():
    """22 penalties, 49,990 rows to train on and 91,701 to judge by: the shape of ijcnn1."""
    n, m, p = 49_990, 91_701, 22
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n + m, p)) * np.geomspace(0.1, 3, p)
    beta = rng.normal(size=p) * (rng.random(p) < 0.5) / np.geomspace(0.1, 3, p)
    y = (X @ beta + rng.logistic(size=n + m) > 1.5).astype(int)
    options = {"groups": "features", "cv": [(np.arange(n), np.arange(n, n + m))], "shrinkage": 0}
    model = BilevelLogisticRegression(**options)
    cold, _ = timed(model, X, y)
    warm, found = timed(model, X, y)
    _, best = timed(BilevelLogisticRegression(**options, tol=1e-9, max_iter=500), X, y)
    least = min(best.criterion_, found.criterion_)
    return {"warm": warm, "cold": cold, "relative": found.criterion_ / least - 1, "evaluations": found.n_iter_}


def scaling():
    """Seconds of a warm fit as one thing grows, and of a grid of 20 values."""
    print(f"{'':28}{'ours s':>9}{'grid s':>9}{'ratio':>8}")
    cases = {
        **{f"{n:,} rows x 100": ((n, 100), 5) for n in (1000, 4000, 16_000)},
        **{f"4,000 rows x {p}": ((4000, p), 5) for p in (25, 400)},
        **{f"4,000 rows x 100, {k} folds": ((4000, 100), k) for k in (3, 10)},
    }
    for name, (shape, k) in cases.items():
        cv = StratifiedKFold(k, shuffle=True, random_state=0)
        ours, grid, X, y = searches(LogisticRegression(max_iter=1000), "C", *labelled(*shape), LOG_LOSS, cv)
        ours.fit(X, y)
        times = [(timed(ours, X, y)[0], timed(grid, X, y)[0]) for _ in range(3)]
        mine, theirs = np.median(times, axis=0)
        print(f"{name:28}{mine:9.3f}{theirs:9.3f}{theirs / mine:8.1f}", flush=True)
    for targets in (1, 10, 100):
        X, y = table(2000, 50, targets=targets)
        ours = HypergradSearchCV(Ridge(), {"alpha": Real(1e-4, 1e4, shape=(targets,))}, scoring=MSE, cv=FIVE)
        ours.fit(X, y.reshape(len(X), -1))
        seconds = np.median([timed(ours, X, y.reshape(len(X), -1))[0] for _ in range(3)])
        print(f"{f'ridge, {targets} hyperparameters':28}{seconds:9.3f}", flush=True)


def speeds():
    """What this machine reads, bytes/s, and multiplies, flops/s: a product with a vector, and one with a matrix."""
    X = np.random.default_rng(0).normal(size=(100_000, 500))
    v = np.ones(500)

    def fastest(function):
        times = []
        for _ in range(5):
            began = time.perf_counter()
            function()
            times.append(time.perf_counter() - began)
        return min(times)

    return X.nbytes / fastest(lambda: X @ v), 2 * X.size * X.shape[1] / fastest(lambda: X.T @ X)


def limits(search, X, bandwidth, flops):
    """Seconds that no program on this machine takes less of, for what a search has done: at full bandwidth, at full speed.

    Reading: the table once, by the preprocessing. Factors: rows times themselves, once. Products: those of `trace_` with the
    condensed rows, there and back, for all tasks at once where these share them, which is where there are more rows than
    features; the memory that they come from, or the operations, whichever takes longer.
    """
    (n, p), tasks = X.shape, search.n_splits_ + 1
    side = min(n, p)
    squared = search.scoring == MSE
    passes = 0 if squared else 2 * float(np.sum(search.trace_["products"]))
    copies = 1 if n >= p else tasks
    once = max(copies * n * side * X.itemsize / bandwidth, 2 * tasks * n * side / flops)
    return X.nbytes / bandwidth, 2 * n * p * side / flops, passes * once


def phases():
    """Seconds of the parts of a warm fit, and of what the machine needs for the same at least."""
    bandwidth, flops = speeds()
    print(f"reading {bandwidth / 1e9:.1f} GB/s, products of matrices {flops / 1e9:.0f} GFlop/s")
    from skhypergrad.adapters.linear_task import LinearTask
    from skhypergrad.model_selection.tuner import Posed, Tuner

    spent: dict[str, float] = {}

    def watched(owner, method, label):
        original = getattr(owner, method)

        @functools.wraps(original)
        def call(*args, **kwargs):
            began = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                spent[label] = spent.get(label, 0.0) + time.perf_counter() - began

        setattr(owner, method, call)

    watched(Tuner, "_prepare", "preprocessing")
    watched(LinearTask, "cut", "cutting folds")
    watched(Posed, "run", "evaluations")
    watched(LinearTask, "answers", "handing over")
    labels = ("preprocessing", "cutting folds", "evaluations", "handing over", "scoring and rest", "whole")
    least = ("limit: reading", "limit: factors", "limit: products")
    print(f"{'race':16}" + "".join(f"{label:>18}" for label in (*labels, "first fit more", *least)))
    for name in ("ridge_grid", "wide_ridge", "logistic_grid", "wide_logistic", "small"):
        ours, _, X, y = RACES[name]()
        cold, _ = timed(ours, X, y)
        spent.clear()
        whole, found = timed(ours, X, y)
        rest = whole - sum(spent.values())
        values = [*(spent.get(label, 0.0) for label in labels[:4]), rest, whole, cold - whole]
        values += limits(found, X, bandwidth, flops)
        print(f"{name:16}" + "".join(f"{value:18.4f}" for value in values), flush=True)


def draw(rows, file):
    """How many times faster, warm and cold, one race a line."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 0.6 + 0.4 * len(rows)), layout="constrained")
    for i, row in enumerate(rows.values()):
        ax.plot([row["rival"] / row["cold"], row["rival"] / row["warm"]], [i, i], color="0.8", zorder=0)
    ax.scatter([row["rival"] / row["warm"] for row in rows.values()], range(len(rows)), label="second fit")
    ax.scatter(
        [row["rival"] / row["cold"] for row in rows.values()], range(len(rows)), label="first fit, compilation included"
    )
    ax.axvline(1, color="0.5", linewidth=1)
    ax.set(
        xscale="log", yticks=range(len(rows)), yticklabels=list(rows), xlabel="time of the rival / time of the search"
    )
    ax.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(file, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("races", nargs="*", metavar="RACE", help="default: all")
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--phases", action="store_true")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios as well")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    names = [*RACES, "many_penalties"]
    if unknown := set(options.races) - set(names):
        parser.error(f"no race called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.one:
        print(json.dumps(many_penalties() if options.one == "many_penalties" else race(options.one)))
    elif options.scaling:
        scaling()
    elif options.phases:
        phases()
    else:
        print(f"{'race':22}{'shape':>16}{'rival s':>9}{'warm s':>9}{'cold s':>9}", end="")
        print(f"{'warm x':>8}{'cold x':>8}{'table MiB':>11}{'peak MiB':>10}{'loss':>14}{'rival loss':>14}")
        rows = {}
        for name in options.races or names:
            command = [sys.executable, "-W", "ignore", __file__, "--one", name]
            row = json.loads(
                subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
            )
            if name == "many_penalties":
                print(
                    f"{name:22}{'141,691 x 22':>16}{'':9}{row['warm']:9.2f}{row['cold']:9.2f}  "
                    f"{row['relative']:.1e} above the best value, {row['evaluations']} evaluations"
                )
                continue
            rows[name] = row
            shape = f"{row['rows']:,} x {row['features']:,}"
            print(
                f"{name:22}{shape:>16}{row['rival']:9.2f}{row['warm']:9.3f}{row['cold']:9.2f}"
                f"{row['rival'] / row['warm']:8.1f}{row['rival'] / row['cold']:8.1f}"
                f"{row['table']:11.1f}{row['memory']:10.0f}{row['ours_loss']:14.8g}{row['rival_loss']:14.8g}",
                flush=True,
            )
        if options.plot:
            draw(rows, options.plot)


if __name__ == "__main__":
    main()

"""Race a mixed space against the grid over the same combinations: scaler x class_weight x C.

    python examples/benchmarks/mixed.py                 bundled sets
    python examples/benchmarks/mixed.py digits          some sets

Six combinations of a scaler and a class weight; for each, one continuous search over C in [1e-4, 1e4], or 20 values of C.
Every search is a whole `fit`, the grid with n_jobs=2. Cold is the first one, compilation included; warm ones and grids
alternate, and their medians are compared. `SKHYPERGRAD_DATA` adds larger sets.
"""

import argparse
import time
import warnings

import numpy as np
from scipy.stats import loguniform
from search import HIGH, LOW, SETS
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

from skhypergrad import HypergradSearchCV

LISTED = {
    "scale": [StandardScaler(), MinMaxScaler(), MaxAbsScaler()],
    "classify__class_weight": [None, "balanced"],
}
NAMES = [name for name in ("breast_cancer", "digits", "leukemia", "madelon") if name in SETS]


def timed(search, X, y):
    began = time.perf_counter()
    search.fit(X, y)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=NAMES, metavar="SET", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tight", action="store_true", help="run scikit-learn's fits to convergence")
    options = parser.parse_args()
    if unknown := set(options.sets) - set(NAMES):
        parser.error(f"no set called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    print(
        f"{'set':16}{'grid s':>8}{'warm s':>8}{'cold s':>8}{'warm x':>8}{'cold x':>8}{'ours':>14}{'grid':>14}  best of ours"
    )
    for name in options.sets:
        X, y = SETS[name][0]()
        final = LogisticRegression(max_iter=2_000)
        if options.tight:
            final.set_params(solver="newton-cg", tol=1e-10, max_iter=1_000)
        model = Pipeline([("scale", StandardScaler()), ("classify", final)])
        shared = {"scoring": "neg_log_loss", "cv": StratifiedKFold(5, shuffle=True, random_state=0), "n_jobs": 2}
        grid = GridSearchCV(model, {**LISTED, "classify__C": np.geomspace(LOW, HIGH, 20)}, **shared)
        ours = HypergradSearchCV(model, {**LISTED, "classify__C": loguniform(LOW, HIGH)}, **shared)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cold = timed(ours, X, y)
            pairs = [(timed(grid, X, y), timed(ours, X, y)) for _ in range(options.repeats)]
        slow, fast = np.median(pairs, axis=0)
        print(
            f"{name:16}{slow:8.2f}{fast:8.2f}{cold:8.2f}{slow / fast:8.1f}{slow / cold:8.1f}"
            f"{ours.best_score_:14.8g}{grid.best_score_:14.8g}  {ours.best_params_}",
            flush=True,
        )


if __name__ == "__main__":
    main()

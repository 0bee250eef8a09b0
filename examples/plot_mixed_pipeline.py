"""
Lists and intervals together: a pipeline with mixed columns
===========================================================

Some choices are lists by nature, such as the degree of a polynomial or the way to scale; the strength of a penalty is a
number in an interval. Given both, the search goes through every combination of the listed values, as `GridSearchCV`
does, and tunes the penalty of each by its derivative.

The data are the diabetes patients that come with scikit-learn, in their original units. A tenth of the measurements is
removed at random, and age becomes a category, so that the pipeline has something to fill in and to encode.
scikit-learn hands out data frames where pandas is installed.
"""

# %%

import time

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, QuantileTransformer, StandardScaler

from skhypergrad import HypergradSearchCV

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
X["decade"] = (X.pop("age") // 10 * 10).astype(int).astype(str)
categories = ["sex", "decade"]
numbers = [name for name in X.columns if name not in categories]
X[numbers] = X[numbers].mask(np.random.default_rng(0).random((len(X), len(numbers))) < 0.1)
print(X.head())

# %%
# Everything before the ridge is fitted on the training rows of each fold, never on the held-out ones.

numeric = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler()), ("powers", PolynomialFeatures())])
columns = ColumnTransformer(
    [("numeric", numeric, numbers), ("categories", OneHotEncoder(handle_unknown="ignore"), categories)]
)
model = Pipeline([("columns", columns), ("ridge", Ridge())])

degree, scale, alpha = "columns__numeric__powers__degree", "columns__numeric__scale", "ridge__alpha"
listed = {degree: [1, 2, 3], scale: [StandardScaler(), QuantileTransformer(n_quantiles=50)]}

# %%
# The same six combinations, with ``alpha`` from an interval and from 20 values of it. The search runs twice because its
# first fit compiles a program for each number of features, here three of them.

common = {"scoring": "neg_root_mean_squared_error", "cv": KFold(5, shuffle=True, random_state=0)}
search = HypergradSearchCV(model, {**listed, alpha: loguniform(1e-2, 1e6)}, **common)
grid = GridSearchCV(model, {**listed, alpha: np.geomspace(1e-2, 1e6, 20)}, n_jobs=2, **common)

runs = [
    ("HypergradSearchCV, first fit", search),
    ("HypergradSearchCV, second fit", search),
    ("GridSearchCV, 20 values", grid),
]
for name, each in runs:
    began = time.perf_counter()
    each.fit(X, y)
    print(f"{name:30} RMSE {-each.best_score_:.5f} in {time.perf_counter() - began:5.1f} s")

# %%
# ``cv_results_`` has one row for each combination, with the ``alpha`` that won there.

results = search.cv_results_
for row in np.argsort(results["rank_test_score"]):
    chosen = results["params"][row]
    error, spread = -results["mean_test_score"][row], results["std_test_score"][row]
    print(f"degree {chosen[degree]}, {chosen[scale]!s:36} alpha {chosen[alpha]:9.2f}  RMSE {error:.2f} +- {spread:.2f}")

# %%
# ``trace_`` has one row for each evaluation; ``candidate`` is the row of ``cv_results_`` it belongs to, and
# ``pandas.DataFrame(search.trace_)`` shows it as a table. Drawn over ``alpha``, it is a validation curve whose points
# crowd around the minimum.

colours, trace = {1: "#0072B2", 2: "#009E73", 3: "#CC79A7"}, search.trace_
fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
for candidate, chosen in enumerate(results["params"]):
    ax = axes[listed[scale].index(chosen[scale])]
    rows = np.flatnonzero(trace["candidate"] == candidate)
    rows = rows[np.argsort(trace["alpha"][rows])]
    look = {"color": colours[chosen[degree]], "label": f"degree {chosen[degree]}"}
    ax.plot(trace["alpha"][rows], trace["criterion"][rows], "-o", ms=5, lw=1.5, mec="w", mew=0.6, **look)
best = axes[listed[scale].index(results["params"][search.best_index_][scale])]
best.plot(search.best_params_[alpha], -search.best_score_, "*", color="#D55E00", ms=19, mec="w", label="chosen")
for ax, title in zip(axes, ("standardised", "quantiles"), strict=True):
    ax.set(xscale="log", xlabel="penalty strength alpha (dimensionless)", title=title, ylim=(54, 80))
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("RMSE on held-out rows, mean of 5 folds\n(points of disease progression)")
best.legend(frameon=False, loc="upper left")
fig.savefig("mixed_pipeline.png", dpi=150)
plt.show()

"""
Quick start: a pipeline tuned on real data
==========================================

`HypergradSearchCV` takes the place of `GridSearchCV`: the list of values becomes an interval, and the best value in it is
found by following the derivative of the cross-validated loss. Both searches run here on the same folds, twice, because
the first fit of each has something to set up: a compiled program here, worker processes there.
"""

# %%
# The model: standardised features and a logistic regression whose inverse penalty strength ``C`` is to be found.
# A tight ``tol`` lets scikit-learn solve its fits as accurately as the search solves its own.

import time

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhypergrad import HypergradSearchCV

X, y = load_breast_cancer(return_X_y=True)
model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-6, max_iter=1000))
C = "logisticregression__C"

# %%
# Two searches of the same interval: all of it, and 20 values of it.

search = HypergradSearchCV(model, {C: loguniform(1e-4, 1e4)}, scoring="neg_log_loss")
grid = GridSearchCV(model, {C: np.geomspace(1e-4, 1e4, 20)}, scoring="neg_log_loss", n_jobs=2)


def seconds(fit):
    began = time.perf_counter()
    fit(X, y)
    return time.perf_counter() - began


print(f"{'':24}{'C':>10}{'log loss':>12}{'first fit':>12}{'second fit':>12}")
for name, each in (("HypergradSearchCV", search), ("GridSearchCV, 20 values", grid)):
    first, second = seconds(each.fit), seconds(each.fit)
    print(f"{name:24}{each.best_params_[C]:10.4f}{-each.best_score_:12.7f}{first:10.2f} s{second:10.2f} s")

# %%
# ``status_`` says how the search ended, and ``trace_`` has a row for every evaluation of the loss and its derivative.

print(f"{search.status_}: {search.message_}")
print(f"{len(search.trace_['criterion'])} evaluations, each of {search.n_splits_} folds at once")

# %%
# Starting values over the whole interval show where the loss is low; from there, the derivative leads to the minimum.

trace, best = search.trace_, search.best_params_[C]
starting = trace["tol"] == trace["tol"][0]
descent = ~starting & (trace["reason"] != "verification")
blue, orange, grey = "#0072B2", "#D55E00", "#8A8A8A"

fig, (whole, close) = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=(3, 2), layout="constrained")
for ax in (whole, close):
    ax.plot(grid.param_grid[C], -grid.cv_results_["mean_test_score"], "-s", c=grey, ms=5, label="grid, 20 values")
    if ax is whole:
        ax.plot(
            trace["C"][starting], trace["criterion"][starting], "o", mec=blue, mfc="w", ms=8, label="starting values"
        )
    ax.plot(trace["C"][descent], trace["criterion"][descent], "o", mec="w", mfc=blue, ms=9, label="descent")
    ax.plot(best, -search.best_score_, "o", mec=orange, mfc="none", ms=17, mew=2.4, label="chosen")
    ax.set(xscale="log", xlabel="inverse penalty strength C (dimensionless)")
    ax.spines[["top", "right"]].set_visible(False)
whole.set(yscale="log", ylabel="log loss on held-out rows\n(nats, mean of 5 folds)", title="The whole interval")
whole.set_yticks([0.1, 0.2, 0.5, 1.0], ["0.1", "0.2", "0.5", "1.0"])
whole.legend(frameon=False, loc="upper center")

low, high = -search.best_score_, trace["criterion"][descent].max()
close.set(xlim=(best / 2.4, best * 2.4), ylim=(1.3 * low - 0.3 * high, 1.4 * high - 0.4 * low))
close.set_xticks([0.3, 0.6, 1.0], ["0.3", "0.6", "1.0"])
close.set_title("The descent, in order")
for order, row in enumerate(np.flatnonzero(descent), start=1):
    # numbers of points that lie close together are stacked
    level = np.sum(np.abs(np.log(trace["C"][:row][descent[:row]] / trace["C"][row])) < 0.15)
    point = trace["C"][row], trace["criterion"][row]
    close.annotate(str(order), point, (0, 13 + 12 * level), textcoords="offset points", ha="center")
for axis in (whole.yaxis, close.xaxis):
    axis.set_minor_locator(plt.NullLocator())

fig.savefig("quickstart.png", dpi=150)
plt.show()

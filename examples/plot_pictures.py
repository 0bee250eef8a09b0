"""
Pictures of a search
====================

Four pictures answer four questions about a fitted `HypergradSearchCV`. How fast was it, beside other searches? What does the
loss look like along the hyperparameter? Where did two hyperparameters go? Which of several matters? The first two are drawn
from what the search has recorded; the others evaluate more points, with the search itself.
"""

# %%
# The first two: a logistic regression, tuned in three ways on the same folds.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from skhypergrad import ContourDisplay, ConvergenceDisplay, HypergradSearchCV, PathDisplay, Real, SensitivityDisplay

X, y = load_breast_cancer(return_X_y=True)
model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-6, max_iter=1000))
C, space, scoring = "logisticregression__C", loguniform(1e-4, 1e4), "neg_log_loss"

searches = {
    "HypergradSearchCV": HypergradSearchCV(model, {C: space}, scoring=scoring),
    "GridSearchCV, 20 values": GridSearchCV(model, {C: np.geomspace(1e-4, 1e4, 20)}, scoring=scoring, n_jobs=2),
    "RandomizedSearchCV, 20 values": RandomizedSearchCV(
        model, {C: space}, n_iter=20, scoring=scoring, n_jobs=2, random_state=0
    ),
}
for search in searches.values():
    search.fit(X, y)

# %%
# How close to the best value of all each has come, after how many fits. An evaluation of `HypergradSearchCV` counts as one
# fit of every fold; what it costs in seconds, with its derivative, is drawn with ``x="seconds"``.

display = ConvergenceDisplay.from_searches(searches, x="fits", gap=True)
display.figure_.savefig("pictures_convergence.png", dpi=300)

# %%
# The validation curve, from the values and slopes at the points that were evaluated; no other fit is needed. The band is one
# standard error: by the one-standard-error rule, values of ``C`` whose mean lies in it are as good as the best.

display = PathDisplay.from_search(searches["HypergradSearchCV"])
display.figure_.savefig("pictures_path.png", dpi=300)

# %%
# Two targets, each with a penalty of its own: the progression of diabetes within a year, and blood glucose, from the other
# measurements, their squares and products. Arrows point down the slope, at a right angle to the contours.

table = load_diabetes(as_frame=True)
X = table.data.drop(columns=["bmi", "bp", "s6"])
Y = table.frame[["target", "s6", "bmi", "bp"]]
Y = Y / Y.std()
model = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler(), Ridge())


def search_of(n_targets):
    space = {"ridge__alpha": Real(1e-2, 1e5, shape=(n_targets,))}
    return HypergradSearchCV(model, space, scoring="neg_mean_squared_error").fit(X, Y.iloc[:, :n_targets])


display = ContourDisplay.from_search(search_of(2), X, Y.iloc[:, :2], resolution=25)
display.figure_.savefig("pictures_contour.png", dpi=300)

# %%
# Four targets: how much the loss rises when one of the penalties becomes ten times weaker or stronger.

display = SensitivityDisplay.from_search(search_of(4), X, Y, factor=10)
display.figure_.savefig("pictures_sensitivity.png", dpi=300)
plt.show()

"""
Every hypergradient, one optimum
================================

The derivative of a cross-validated loss can be had in several ways. *Implicit* differentiates the optimum of every fold's
fit. *Reverse* and *forward* differentiate so many steps of a solver, backwards or along with it. *Online* changes the
hyperparameter while the solver is still on its way. `HypergradSearchCV` takes each of them by name, and what follows the
derivative as well: quasi-Newton steps, HOAG, or Adam.

On a ridge and on a logistic regression all of them end at the same optimum: within 0.2 % of each other in `alpha`, and within
0.8 % in `C`, where scores differ in the seventh digit. They differ in what it costs to get there, and in what else they could
tune: an unrolled run has a derivative with respect to its learning rate, an optimum has not.
"""

# %%

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import validation_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from skhypergrad import HypergradSearchCV

MODES = {
    "implicit": {"method": "implicit"},
    "implicit, HOAG": {"method": "implicit", "optimizer": "hoag"},
    "implicit, Adam": {"method": "implicit", "optimizer": "adam"},
    "reverse": {"method": "reverse"},
    "forward": {"method": "forward"},
    "online": {"method": "online"},
}
CASES = {
    "ridge on products of features, diabetes": (
        load_diabetes,
        make_pipeline(StandardScaler(), PolynomialFeatures(), StandardScaler(), Ridge()),
        "ridge__alpha",
        "neg_mean_squared_error",
        (1e0, 1e4),
    ),
    "logistic regression, breast cancer": (
        load_breast_cancer,
        make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=10_000)),
        "logisticregression__C",
        "neg_log_loss",
        (1e-3, 1e2),
    ),
}


def search(model, space, scoring, X, y, mode):
    """A fitted search and the seconds of its second fit: the first one compiles."""
    found = HypergradSearchCV(model, space, scoring=scoring, max_steps=100, **mode).fit(X, y)
    began = time.perf_counter()
    found.fit(X, y)
    return found, time.perf_counter() - began


# %%
# The default optimizer looks at a few points over the whole interval first; HOAG, Adam and the online mode begin in the
# middle. Adam and the online mode use up their steps by design and say so with a warning, which is left out here.

warnings.simplefilter("ignore", ConvergenceWarning)
figure, axes = plt.subplots(2, 2, figsize=(11, 7), height_ratios=[3, 2], layout="constrained")
for column, (name, (load, model, parameter, scoring, interval)) in enumerate(CASES.items()):
    X, y = load(return_X_y=True)
    top, bottom = axes[:, column]
    short, ends = parameter.split("__")[1], []
    print(name)
    for number, (label, mode) in enumerate(MODES.items()):
        found, seconds = search(model, {parameter: loguniform(*interval)}, scoring, X, y, mode)
        ends.append(found.best_params_[parameter])
        path = found.trace_[short]
        top.plot(np.arange(1, len(path) + 1), path, "o-", ms=3, lw=1, color=f"C{number}", label=label)
        bottom.barh(number, seconds, color=f"C{number}")
        bottom.text(seconds, number, f" {ends[-1]:.3g}", va="center")
        print(f"  {label:16}{short} = {ends[-1]:8.5g}   score {found.best_score_:.6f}   {seconds:6.3f} s")
    print(f"  the values differ by {max(ends) / min(ends) - 1:.1%} at most")
    values = np.geomspace(*interval, 60)
    _, scores = validation_curve(model, X, y, param_name=parameter, param_range=values, scoring=scoring, cv=5)
    best = values[scores.mean(axis=1).argmax()]
    top.axhspan(best / 1.03, best * 1.03, color="0.8", zorder=0, label="best of 60 fits")
    top.set(xscale="log", yscale="log", xlabel="evaluation", ylabel=short, title=name)
    bottom.set(yticks=range(len(MODES)), yticklabels=MODES)
    bottom.set(xlabel=f"seconds of a warm fit, and the {short} it found")
    bottom.invert_yaxis()
    bottom.margins(x=0.15)
axes[0, 0].legend(fontsize=8)
plt.show()

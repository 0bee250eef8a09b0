"""
Data hyper-cleaning: one weight for every row
=============================================

Half of the labels of a training set are wrong, and it is not known which. A set of validation rows can be trusted.
Every training row gets a weight between 0 and 1. The weights are tuned, all at once, until the model that is fitted with
them does well on the validation rows: rows with a wrong label should end with weight zero. A budget bounds the sum of the
weights. This is the data hyper-cleaning of Franceschi et al., "Forward and reverse gradient-based hyperparameter
optimization" (ICML 2017).

The paper differentiates many unrolled steps of gradient descent. Here the inner problem has a small penalty, hence one
optimum, and `Implicit` differentiates that. It takes some three Newton steps and a linear solve, less than a tenth of the
processor time of `Reverse` through 500 steps, which have not reached an optimum.

The result on scikit-learn's digits, as means of five random splits: fitted on all rows as they are labelled, a softmax
regression has a test accuracy of 91.5 %; without the wrong labels it has 95.9 %. With the weights found it has 95.1 to 95.2 %
for budgets from 100 to 250 of 500 rows, so that 81 to 84 % of the gap is closed, whatever the budget. Weight zero tells the
wrong labels from the right ones with an F1 of 0.88 for the smallest budget, which cannot keep all right labels, and of 0.91
to 0.92 for the others. So far this agrees with the paper. But two plain ways, which the paper does not compare, do as well
here. The validation rows alone, without any training row, give 95.2 %. And the training rows whose label is contradicted by a
model of the validation rows are the wrong ones with an F1 of 0.98; without them the accuracy is 95.4 %.
"""

# %%

import importlib.util
import os
import time

import matplotlib.pyplot as plt
import numpy as np
import optax
from jax import numpy as jnp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from skhypergrad.bilevel import FirstOrder, Implicit, Problem, Real, tune
from skhypergrad.bilevel.losses import multinomial

SHARES = (0.2, 0.3, 0.4, 0.5)  # budgets, as shares of the training rows
ADAM = FirstOrder(optax.adam(0.3))


def load():
    """Images, labels, number of rows for training and as many for validation, penalty, number of random splits."""
    if folder := os.environ.get("SKHYPERGRAD_DATA"):
        spec = importlib.util.spec_from_file_location("load", os.path.join(folder, "load.py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        mnist = module.load("mnist_10k_10k")
        return mnist["X_train"][:5000].reshape(5000, -1) / 255, mnist["y_train"][:5000].astype(int), 1500, 1e-2, 1
    X, y = load_digits(return_X_y=True)
    return X / 16, y, 500, 1e-3, 5


# %%
# The inner problem is a softmax regression on weighted rows, the outer objective its plain log loss on the validation rows.
# The weights are divided by the budget, so that the penalty is equally strong for each. The penalty is the power of ten at
# which a model of the unweighted training rows has the least log loss on the validation rows. It is not tuned along with
# the weights: in a trial it went to its lower bound, and the weights followed the validation rows too closely.


def weighted_loss(coef, hyper, data):
    losses = multinomial(data["X"] @ coef, data["Y"])
    return hyper["weight"] @ losses / data["budget"] + data["penalty"] * jnp.sum(coef**2) / 2


def validation_loss(coef, hyper, data):
    return jnp.mean(multinomial(data["X_val"] @ coef, data["Y_val"]))


def zeros(hyper, data):
    return jnp.zeros((data["X"].shape[1], data["Y"].shape[1]))


problem = Problem(weighted_loss, validation_loss, zeros)


def clean(X, y, X_val, y_val, budget):
    """Weights of the rows, `budget` at most in all, for which the validation loss is small."""
    data = {"X": X, "Y": np.eye(10)[y], "X_val": X_val, "Y_val": np.eye(10)[y_val]}
    data |= {"budget": float(budget), "penalty": penalty}
    weight = Real(0, 1, scale="linear", shape=y.shape, init=np.full(y.shape, budget / len(y)), budget=budget)
    return tune(problem, Implicit(tol=1e-6), ADAM, {"weight": weight}, data, max_steps=100).hyper["weight"]


def fit(X, y, weight):
    """The same model on rows of given weights."""
    model = LogisticRegression(C=1 / (penalty * weight.sum()), solver="newton-cg", fit_intercept=False)
    with threadpool_limits(1):  # so small a fit is slower on several threads
        return model.fit(X, y, sample_weight=weight)


# %%
# In every split half of the training labels become another one at random. The final models are fitted on training and
# validation rows together, as in the paper, where the validation rows get the largest weight found.

X, truth, n, penalty, splits = load()
X = np.column_stack([X, np.ones(len(X))])  # the last column is the intercept's
BASE, ALONE, CONTRADICTED, ORACLE = names = (
    "all rows (baseline)",
    "validation rows alone",
    "without contradicted rows",
    "without wrong labels (oracle)",
)
accuracy, f1, seconds = {name: [] for name in (*names, *SHARES)}, {name: [] for name in (CONTRADICTED, *SHARES)}, []
for split in range(splits):
    rng = np.random.default_rng(split)
    order = rng.permutation(len(truth))
    X_split, y, wrong = X[order], truth[order], np.zeros(n, bool)
    wrong[rng.choice(n, n // 2, replace=False)] = True
    given = y[: 2 * n].copy()
    given[:n][wrong] = (given[:n][wrong] + rng.integers(1, 10, wrong.sum())) % 10
    rows, held, test = slice(n), slice(n, 2 * n), slice(2 * n, None)

    contradicted = fit(X_split[held], given[held], np.ones(n)).predict(X_split[rows]) != given[rows]
    f1[CONTRADICTED].append(f1_score(wrong, contradicted))
    weights = {BASE: np.ones(n), ALONE: np.zeros(n), CONTRADICTED: 1.0 * ~contradicted, ORACLE: 1.0 * ~wrong}
    for share in SHARES:
        began = time.perf_counter()
        weights[share] = clean(X_split[rows], given[rows], X_split[held], given[held], share * n)
        seconds.append(time.perf_counter() - began)
        f1[share].append(f1_score(wrong, weights[share] < 1e-3))
    for name, weight in weights.items():
        final = fit(X_split[: 2 * n], given, np.append(weight, np.full(n, weight.max() or 1.0)))
        accuracy[name].append(100 * final.score(X_split[test], y[test]))
    if split == 0:
        shown = weights[0.4], wrong

# %%
# Means over the splits; the spread is that of the difference from the oracle, which is fitted in the same splits.

mean = {name: np.mean(values) for name, values in accuracy.items()}
for name, values in accuracy.items():
    label = f"budget {name * n:.0f}" if name in SHARES else name
    closed = 100 * (mean[name] - mean[BASE]) / (mean[ORACLE] - mean[BASE])
    spread = np.std(np.subtract(values, accuracy[ORACLE]))
    detail = f"  F1 {np.mean(f1[name]):.3f} ({min(f1[name]):.3f} to {max(f1[name]):.3f})" if name in f1 else ""
    print(f"{label:30} accuracy {mean[name]:.2f} % +- {spread:.2f}, gap closed {closed:3.0f} %{detail}")
print(f"a search takes {np.median(seconds):.1f} s, the first one, which compiles, {seconds[0]:.1f} s")

# %%
# On the left the two kinds of rows, on the right what the weights are worth on new images.

blue, orange, grey = "#0072B2", "#D55E00", "#777777"
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
weight, wrong = shown
groups = {"color": [blue, orange], "label": ["right label", "wrong label"], "bins": np.linspace(0, 1, 21)}
left.hist([weight[~wrong], weight[wrong]], **groups)
left.set(xlabel="weight found", ylabel="training rows", yscale="log", ylim=(0.7, n), yticks=(1, 10, 100))
left.set(title=f"Weights of {n} rows, budget {0.4 * n:.0f}", yticklabels=(1, 10, 100))
left.legend(frameon=False, loc="upper center")
budgets = [share * n for share in SHARES]
right.axhline(mean[ORACLE], color=blue, lw=2, label=ORACLE)
right.axhline(mean[CONTRADICTED], color=grey, ls=":", lw=2, label=CONTRADICTED)
right.plot(
    budgets, [mean[share] for share in SHARES], "o-", color="black", lw=1.5, ms=8, label="with the weights found"
)
right.axhline(mean[ALONE], color=grey, ls="--", lw=1.5, label=ALONE)
right.axhline(mean[BASE], color=orange, lw=2, label=BASE)
right.set(xlabel="budget: largest sum of the weights", ylabel="accuracy on test images (%)", xticks=budgets)
right.set_title(f"Final models (random splits: {splits})")
right.legend(frameon=False)
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
plt.show()

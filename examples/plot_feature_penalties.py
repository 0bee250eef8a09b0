"""
A penalty for each feature
==========================

Fifty measurements of a hundred correlated features, five of which matter. One penalty for all has to choose between keeping
the five and leaving out the others. :class:`~skhypergrad.BilevelRidge` with a penalty for each feature need not; its guard
keeps a hundred penalties from over-fitting the fifty rows. The lasso, which is made for this, is better still, and
`ARDRegression`, which tunes as many penalties by another criterion, is beside it.
"""

# %%
# The data: neighbouring features have a correlation of 0.6, and the noise has a tenth of the length of the signal.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import ARDRegression, LassoCV, RidgeCV

from skhypergrad import BilevelRidge

N_FEATURES, N_RELEVANT = 100, 5


def draw(n, rng, beta):
    X = rng.normal(size=(n, N_FEATURES))
    for j in range(1, N_FEATURES):
        X[:, j] = 0.6 * X[:, j - 1] + 0.8 * X[:, j]
    signal = X @ beta
    noise = rng.normal(size=n)
    return X, signal + noise * np.linalg.norm(signal) / np.linalg.norm(noise) / 10


rng = np.random.RandomState(0)
beta = np.zeros(N_FEATURES)
relevant = rng.choice(N_FEATURES, N_RELEVANT, replace=False)
beta[relevant] = rng.choice([-1, 1], N_RELEVANT)
X, y = draw(50, rng, beta)
X_test, y_test = draw(5000, rng, beta)

# %%
# Four models.

models = {
    "RidgeCV": RidgeCV(np.geomspace(1e-4, 1e4, 50)),
    "LassoCV": LassoCV(),
    "ARDRegression": ARDRegression(),
    "BilevelRidge": BilevelRidge(groups="features"),
}
for name, model in models.items():
    began = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - began
    print(f"{name:14} R2 on new rows {model.score(X_test, y_test):.4f}   {seconds:6.2f} s")

# %%
# Its penalties find the features that matter.

alpha = models["BilevelRidge"].alpha_
found = np.argsort(alpha)[:N_RELEVANT]
print(f"{len(set(found) & set(relevant))} of the {N_RELEVANT} smallest penalties are those of relevant features")

fig, (top, bottom) = plt.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
top.semilogy(alpha, ".", color="0.6", label="irrelevant")
top.semilogy(relevant, alpha[relevant], "o", color="C3", label="relevant")
top.set(ylabel="penalty", title="BilevelRidge: a penalty for each feature")
top.legend()
for (name, model), color in zip(models.items(), ("0.7", "C0", "C2", "C3"), strict=True):
    if name != "ARDRegression":
        bottom.plot(model.coef_, color=color, lw=1.2, label=name)
bottom.plot(relevant, beta[relevant], "k_", ms=12, label="truth")
bottom.set(xlabel="feature", ylabel="coefficient", ylim=(-1.2, 1.8))
bottom.legend(ncols=4)
plt.show()

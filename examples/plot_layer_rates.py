"""
A learning rate for each layer
==============================

A network with two hidden layers on the digits. With `per_layer=True`, :class:`~skhypergrad.BilevelMLPClassifier` has a
learning rate and a penalty for each layer, and all of them move while the network is trained: six numbers along the
derivative of the held-out loss, in one training.
"""

# %%
# One rate for all layers, and one for each, from the same starting weights.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skhypergrad import BilevelMLPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)

models = {
    "one rate": BilevelMLPClassifier((64, 32), random_state=0),
    "a rate for each layer": BilevelMLPClassifier((64, 32), per_layer=True, random_state=0),
}
for name, model in models.items():
    model.fit(X_train, y_train)
    print(f"{name:22} held-out log loss {model.criterion_:.4f}, accuracy on new rows {model.score(X_test, y_test):.4f}")
    print(f"{'':22} learning rates {model.learning_rate_init_}")

# %%
# Their course, from the last of the starting rates that are compared. Digits are easy, so that both come to about the same;
# what the layers want differs, and changes as they learn. The first drop is to
# the best of the starting rates, the others go back to the best moment, with a third of the rate.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    trace = model.trace_
    columns = [column for column in trace if column.startswith("learning_rate_init")]
    begin = np.flatnonzero(trace["reason"] == "cold").max()
    for column in columns:
        ax.semilogy(trace[column][begin:], label=column.replace("learning_rate_init", "layer "))
    ax.set(title=name, xlabel="move")
axes[0].set_ylabel("learning rate")
axes[1].legend()
plt.show()

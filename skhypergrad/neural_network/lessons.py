"""From data and splits to what a network is trained on: starting weights, orders of mini-batches, held-out rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from skhypergrad.bilevel.networks import Layer, Lesson

# Epochs with an order of their own; a longer training begins with the first one again.
ORDERS = 50


def starting_weights(sizes, activation, rng, dtype) -> list[Layer]:
    """Weights and biases of every layer, uniform as scikit-learn draws them (Glorot & Bengio 2010)."""
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (fan_in + fan_out))
        coef = rng.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype)
        layers.append(Layer(coef, rng.uniform(-bound, bound, fan_out).astype(dtype)))
    return layers


def order_of(rows, n_samples: int, size: int, epochs: int, rng) -> np.ndarray:
    """(n_batches * epochs, size) int32: every epoch all rows in another order, filled up with `n_samples`.

    Where one batch holds all rows their order makes no difference, and they stay as they are.
    """
    orders = [rows] if len(rows) <= size else [rng.permutation(rows) for _ in range(epochs)]
    orders = [np.pad(order, (0, -len(order) % size), constant_values=n_samples) for order in orders]
    return np.concatenate(orders).reshape(-1, size).astype(np.int32)


def lessons(X, y, weight, splits, batch_size: int, start, fixed, rng) -> tuple[Lesson, Lesson, int]:
    """One task for every split, the axes of its parts for `vmap`, and the mini-batches of an epoch.

    Parameters
    ----------
    X, y : (n_samples, n_features), (n_samples, n_outputs), of one floating type
    weight : (n_samples,)
    splits : list of (train, test)
        A test set without rows: these rows are only fitted.
    batch_size : int, at most
    start : list of Layer
    fixed : dict of hyperparameters that are not tuned
    rng : RandomState
    """
    n, dtype = len(X), X.dtype
    trains = [train[weight[train] > 0] for train, _ in splits]
    size = min(batch_size, max(map(len, trains)))
    batches = max(-(-len(train) // size) for train in trains)
    # epochs of folds that differ by a row may differ by a batch: they begin anew after as many steps all the same
    orders = [_repeated(order_of(train, n, size, ORDERS, rng), ORDERS * batches) for train in trains]
    judged = sum(len(test) > 0 for _, test in splits)
    longest = max(len(test) for _, test in splits)
    tests = np.stack([np.pad(test, (0, longest - len(test))) for _, test in splits]).astype(np.int32)
    test_weight = np.stack([np.pad(weight[test], (0, longest - len(test))) for _, test in splits]).astype(dtype)
    is_judged = test_weight.sum(axis=1) > 0
    test_weight[~is_judged] = 1.0
    train_weight = np.zeros((len(splits), n), dtype)
    for k, train in enumerate(trains):
        train_weight[k, train] = weight[train]
    data = Lesson(
        X=X,
        y=y,
        weight=train_weight,
        order=np.stack(orders),
        rows=np.stack([order[0] for order in orders]),
        test=tests,
        test_weight=test_weight,
        variance=np.ones((len(splits), y.shape[1]), dtype),
        share=np.where(is_judged, len(splits) / judged, 0.0).astype(dtype),
        start=start,
        fixed={name: np.asarray(value, dtype) for name, value in fixed.items()},
    )
    axes = Lesson(None, None, 0, 0, 0, 0, 0, 0, 0, None, None)
    return data, axes, batches


def _repeated(order, length: int):
    return order[np.arange(length) % len(order)]

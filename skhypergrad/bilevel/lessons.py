"""From rows and splits to what networks are trained on: starting weights, orders of mini-batches, held-out rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from skhypergrad.bilevel.networks import Layer, Lesson


def starting_weights(sizes, activation, rng, dtype) -> list[Layer]:
    """Weights and biases of every layer, uniform as scikit-learn draws them (Glorot & Bengio 2010)."""
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (fan_in + fan_out))
        coef = rng.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype)
        layers.append(Layer(coef, rng.uniform(-bound, bound, fan_out).astype(dtype)))
    return layers


def lessons(X, y, weights, orders, size: int, tests, test_weights, start, fixed) -> tuple[Lesson, Lesson]:
    """One task for every split, and the axes of its parts for `vmap`.

    Parameters
    ----------
    X, y : (n_samples, n_features), (n_samples, n_outputs), of one floating type, or lists of these, one a split
    weights : list of (n_samples,), one a split
    orders : list of (n_epochs, n_train) row numbers, one a split
        A training that has come to the end of it begins with its first epoch again.
    size : int
        Rows of a mini-batch.
    tests, test_weights : lists of (n_test,), one a split
        A test set without rows, or without weight: the split is only fitted.
    start : list of Layer
    fixed : dict of hyperparameters that are not tuned
    """
    one = not isinstance(X, list)
    tables = [X] if one else X
    n, dtype = max(map(len, tables)), tables[0].dtype
    batches = [-(-order.shape[1] // size) for order in orders]
    # epochs of splits that differ by a row may differ by a batch: these begin anew after as many steps all the same
    steps = max(len(order) * b for order, b in zip(orders, batches, strict=True))
    in_batches = [_in_batches(order, size, n) for order in orders]
    order = np.stack([batch[np.arange(steps) % len(batch)] for batch in in_batches])
    longest = max(map(len, tests))
    test_weight = np.stack([_filled(weight, longest) for weight in test_weights]).astype(dtype)
    judged = test_weight.sum(axis=1) > 0
    targets = [y] * len(tests) if one else y
    variance = [
        _variance(target[test], weight) for target, test, weight in zip(targets, tests, test_weights, strict=True)
    ]
    # what is divided by shall not be zero; it counts for nothing
    test_weight[~judged] = 1.0
    data = Lesson(
        X=X if one else np.stack([_filled(table, n) for table in X]),
        y=y if one else np.stack([_filled(table, n) for table in y]),
        weight=np.stack([_filled(weight, n) for weight in weights]).astype(dtype),
        order=order,
        rows=order[:, 0],
        batches=np.array(batches, np.int32),
        test=np.stack([_filled(test, longest) for test in tests]).astype(np.int32),
        test_weight=test_weight,
        variance=np.stack(variance).astype(dtype),
        share=np.where(judged, len(judged) / judged.sum(), 0.0).astype(dtype),
        start=start,
        fixed={name: np.asarray(value, dtype) for name, value in fixed.items()},
    )
    own = None if one else 0
    axes = Lesson(own, own, weight=0, order=0, rows=0, batches=0, test=0, test_weight=0, variance=0, share=0, start=None,
                  fixed=None)  # fmt: skip
    return data, axes


def _in_batches(order, size: int, fill: int) -> np.ndarray:
    """(n_epochs * n_batches, size) int32: every epoch's order in mini-batches, the last one filled up."""
    padded = np.pad(order, ((0, 0), (0, -order.shape[1] % size)), constant_values=fill)
    return padded.reshape(-1, size).astype(np.int32)


def _filled(rows, n: int):
    return np.pad(rows, [(0, n - len(rows))] + [(0, 0)] * (np.ndim(rows) - 1))


def _variance(y, weight) -> np.ndarray:
    if not weight.sum() > 0:
        return np.ones(y.shape[1])
    return np.average((y - np.average(y, axis=0, weights=weight)) ** 2, axis=0, weights=weight)

"""Multilayer perceptrons: every split is trained from scikit-learn's starting weights, in scikit-learn's order of rows."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

import jax
import numpy as np
import scipy.sparse
from sklearn.utils import check_random_state, shuffle

from skhypergrad.adapters.base import NetworkAdapter
from skhypergrad.adapters.scoring import CRITERIA
from skhypergrad.adapters.task import Cut, Task, check_weights
from skhypergrad.bilevel.epochs import UntilStill
from skhypergrad.bilevel.lessons import lessons, starting_weights
from skhypergrad.bilevel.networks import MLP, Training, held_out_rows

# Row numbers of all epochs' orders that are kept for a split (64 MiB); a longer training begins with the first again.
ORDERED = 1 << 24

# A sparse matrix is stored densely up to this many cells in all splits (1 GiB).
DENSE_CELLS = 1 << 27


class NetworkTask(Task):
    """A network on one set of splits; the weights of a split are (coef, intercept) of every layer.

    What is random is drawn as the estimator's `fit` would draw it; with `random_state=None`, which draws anew for every fit,
    from a fixed seed.
    """

    adapter: NetworkAdapter
    dtypes: ClassVar = (np.float64, np.float32)

    def takes_several_targets(self) -> bool:
        # whatever their tags say: `encode` refuses several labels in its own words
        return True

    def cut(self, criterion: str) -> Cut:
        """The splits on the device and the training they are the tasks of."""
        y = self.target.y
        n_rows = [len(train) for train, _ in self.splits]
        weights, test_weights = [], []
        for i, (train, _) in enumerate(self.splits):
            self._check_classes(i, train)
            given = self.train_weight(i)
            weights.append(np.ones(len(train)) if given is None else given)
            test_weights.append(self.test_weight(i))
            check_weights(i, weights[i], test_weights[i])
        self._check_size()
        # where there is no pipeline all splits share one table
        shared = self.X is not None
        tables = [_array(self.X)] if shared else [_stacked(part.X_train, part.X_test) for part in self.parts]
        dtype = np.result_type(*tables)
        X: Any
        targets: Any
        if shared:
            X, targets = tables[0], y.astype(dtype)
            rows, tests = [train for train, _ in self.splits], [test for _, test in self.splits]
        else:
            X = [table.astype(dtype) for table in tables]
            targets = [y[np.concatenate(split)].astype(dtype) for split in self.splits]
            rows = [np.arange(n) for n in n_rows]
            tests = [np.arange(n, len(table)) for n, table in zip(n_rows, tables, strict=True)]
        hidden = list(map(int, np.ravel(self.last.hidden_layer_sizes)))
        if any(size <= 0 for size in hidden):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        size = 200 if self.last.batch_size == "auto" else self.last.batch_size
        orders = []
        for own in rows:
            rng = self._random_state()
            # every fit draws the same weights, and then an order of its own rows
            start = starting_weights([tables[0].shape[1], *hidden, y.shape[1]], self.last.activation, rng, dtype)
            orders.append(own[self._orders(len(own), rng)])
        data, axes = lessons(
            X, targets, [_placed(w, r, max(map(len, tables))) for w, r in zip(weights, rows, strict=True)], orders,
            min(size, max(n_rows)), tests, test_weights, start, self.adapter.fixed,
        )  # fmt: skip
        model = MLP(self.target.loss, self.last.activation)
        solver = UntilStill(Training(self.adapter.rule), model)
        steps = int(self.last.max_iter * data.batches.max())

        def restore(params):
            layers = [(np.asarray(coef), np.asarray(intercept)) for coef, intercept in params]
            return [[(coef[k], intercept[k]) for coef, intercept in layers] for k in range(len(self.splits))]

        with jax.enable_x64(True):
            data = jax.device_put(data)
        return Cut(held_out_rows(model, CRITERIA[criterion]), data, axes, restore, solver, steps)

    def write(self, estimator, weights, dtype) -> None:
        layers = [(coef.astype(dtype), intercept.astype(dtype)) for coef, intercept in weights]
        self.adapter.write(estimator, layers, self.target, self.labels)

    def _random_state(self):
        given = self.last.random_state
        return check_random_state(0 if given is None else deepcopy(given))

    def _orders(self, n: int, rng) -> np.ndarray:
        """(n_epochs, n) places of the rows."""
        places = np.arange(n)
        if not self.last.shuffle:
            return places[None]
        orders = []
        for _ in range(max(1, min(self.last.max_iter, ORDERED // n))):
            places = shuffle(places, random_state=rng)
            orders.append(places)
        return np.stack(orders)

    def _check_classes(self, i: int, train) -> None:
        classes = self.target.classes
        if classes is None:
            return
        missed = np.setdiff1d(classes, np.asarray(self.labels)[train]).tolist()
        if missed:
            raise ValueError(
                f"The training rows of split {i} have no row of class {missed[0]!r}: its network would have another shape. "
                "Use StratifiedKFold, or leave rare classes out."
            )

    def _check_size(self) -> None:
        widths = sorted({self.n_features(k) for k in range(len(self.splits))})
        if len(widths) > 1:
            raise ValueError(
                f"The preprocessing makes {widths[0]} features of one split and {widths[-1]} of another, and networks of "
                "different shapes cannot be trained together. Fix its vocabulary or its categories, or use a list of values."
            )
        tables = range(len(self.splits) if self.X is None else 1)
        cells = sum(self.n_features(k) * sum(map(len, self.splits[k])) for k in tables)
        if scipy.sparse.issparse(self.parts[0].X_train if self.X is None else self.X) and cells > DENSE_CELLS:
            raise ValueError(
                f"Sparse rows are trained on densely, and these have {cells:,} cells. Reduce the features first, for "
                "instance by TruncatedSVD, or use a list of values."
            )


def _array(X) -> np.ndarray:
    return X.toarray() if scipy.sparse.issparse(X) else X


def _stacked(X_train, X_test) -> np.ndarray:
    return np.concatenate([_array(X_train), _array(X_test)])


def _placed(weight, rows, n: int) -> np.ndarray:
    """The weights of some rows at their places among n."""
    table = np.zeros(n)
    table[rows] = weight
    return table

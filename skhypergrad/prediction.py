"""What every classifier says from its raw predictions; NumPy only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, log_softmax, softmax


class FromRaw:
    """Predictions of a classifier with `classes_` and `_raw(X)`: (n_samples, 1) log odds, or (n_samples, n_classes)."""

    classes_: np.ndarray
    _raw: Callable

    def decision_function(self, X):
        """Log odds (n_samples,) of the second of two classes, or raw predictions (n_samples, n_classes)."""
        raw = self._raw(X)
        return raw[:, 0] if len(self.classes_) == 2 else raw

    def predict(self, X):
        """The most probable class of every row, (n_samples,)."""
        raw = self.decision_function(X)
        return self.classes_[(raw > 0).astype(int) if raw.ndim == 1 else np.argmax(raw, axis=1)]

    def predict_proba(self, X):
        """Probabilities (n_samples, n_classes), in the order of `classes_`."""
        raw = self.decision_function(X)
        return np.stack([expit(-raw), expit(raw)], axis=1) if raw.ndim == 1 else softmax(raw, axis=1)

    def predict_log_proba(self, X):
        """Their logarithms."""
        raw = self.decision_function(X)
        return log_softmax(np.stack([np.zeros_like(raw), raw], axis=1) if raw.ndim == 1 else raw, axis=1)

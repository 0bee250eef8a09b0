"""The door: the only place that knows both scikit-learn and the engine."""

from skhypergrad.adapters.base import Adapter, NetworkAdapter, Target, lookup, register, registered

__all__ = ["Adapter", "NetworkAdapter", "Target", "lookup", "register", "registered"]

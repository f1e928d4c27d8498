"""Callbacks for the `fit` of either flavor, one per module."""

"""Callbacks for the `fit` of either flavour, one per module."""

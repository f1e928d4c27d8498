"""Callbacks for the `fit` of either flavour, one in each module."""

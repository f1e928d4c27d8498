"""Masks, criteria and weights: what is pruned, and which elements of it."""

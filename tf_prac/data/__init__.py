"""Samples, their ids, forgetting statistics, PrAC sets and input pipelines."""

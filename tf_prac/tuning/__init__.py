"""The tuning package."""

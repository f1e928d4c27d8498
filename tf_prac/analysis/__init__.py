"""Figures about searches: what they cost and what they found."""

"""Dominance, hypervolume, and models with intervals: one implementation of each."""

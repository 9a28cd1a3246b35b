"""Dominance, hypervolume and intervals: one implementation of each."""

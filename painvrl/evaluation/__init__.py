"""Ranking and its metrics."""

"""Recommenders of others on the same splits, judged by the same ranking: what ours must be held against."""

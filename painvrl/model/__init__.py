"""The recommender: its backbone and the fusion of invariant and variant parts."""

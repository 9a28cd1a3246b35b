"""Interactions, features, splits and the readers that make them."""

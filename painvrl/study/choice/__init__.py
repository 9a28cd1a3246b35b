"""Choosing from a front: rules, picks, and which of them wins."""

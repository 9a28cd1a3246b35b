"""Ablations: named configurations with equal budgets under several seeds, and the table of them."""

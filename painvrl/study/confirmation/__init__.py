"""Confirming a front: its candidates under further seeds, until it is decided who is on it."""

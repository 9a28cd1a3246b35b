"""The report of a study: one HTML file that says what was found, at which price, and what it depends on.

A section a module: numbers as frozen dataclasses, and the picture of them. :mod:`.page` only composes.
"""

"""Studies: many runs that search the trade-off front, and what is made of their results.

Optuna and MLflow stay inside this package. Import the module that you need: this file loads none.
"""

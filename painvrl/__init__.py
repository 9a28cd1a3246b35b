"""painvrl: the trade-off front between in- and out-of-distribution recommendation quality.

Importing the package loads none of its heavy dependencies; import the module that you need.
"""

__version__ = "0.1.0"

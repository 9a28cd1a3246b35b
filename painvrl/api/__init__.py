"""painvrl from Python: what the command line does, as functions and objects.

Their public names are those of :mod:`painvrl` itself.
"""

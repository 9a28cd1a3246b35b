"""From a chosen configuration to a model that others use: train it, check it, test it, register it."""

"""The three modules of the method: environments, mask, and the Pareto balance between risks."""

"""The mirror of a study for people to look at: the port, and MLflow's side of it."""

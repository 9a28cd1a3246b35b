"""The search: where to try next, who trains, who is stopped early, and when it is enough."""

"""One trial: what it computes, what it comes to, and what of it is kept."""

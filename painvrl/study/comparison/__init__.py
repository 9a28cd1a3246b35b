"""Two studies side by side: which front is better, by how much, and how sure that is."""

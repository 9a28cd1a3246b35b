"""A study's file: what it may say, what it must not, and what it comes to."""

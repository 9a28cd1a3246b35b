"""A front as a picture: on a page, as a PNG, as text."""

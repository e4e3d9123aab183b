"""A corpus of one's own: read, checked, and written as manifests and a recipe."""

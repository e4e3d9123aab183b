"""Pages about the project, and the scripts that make their tables, numbers and pictures."""

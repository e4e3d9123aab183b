"""A third encoder, unlike the others in heads, frames and files."""

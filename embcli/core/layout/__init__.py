"""Vectors in two or three dimensions, and how much of their neighbourhoods is left there."""

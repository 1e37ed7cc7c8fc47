"""Bias in a space: measured, and removed by maps."""

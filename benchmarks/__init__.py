"""Measurements: commands that print ratios. None of them is a test."""

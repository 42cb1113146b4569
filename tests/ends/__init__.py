"""Ends of a training process: the cases, and the harness that plays them with real processes."""

"""Faults of the tracking server, and everything still arrives once or is accounted for."""

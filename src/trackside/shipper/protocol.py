"""What the training process and its shipper agree on."""

from __future__ import annotations

LINGER = 3600.0
"""Seconds a shipper keeps trying after the training process has ended. Then run ``trackside sync``."""

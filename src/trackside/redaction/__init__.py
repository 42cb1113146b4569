"""Secrets stay in the process: text that leaves it passes :func:`trackside.redaction.redact.redact`."""

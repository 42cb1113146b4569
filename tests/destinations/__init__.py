"""The destinations beside MLflow, each read back by the real reader of what it writes."""

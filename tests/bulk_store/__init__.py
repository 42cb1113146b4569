"""The bulk store, beside the one it stands in for."""

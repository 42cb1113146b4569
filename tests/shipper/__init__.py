"""The shipper's own parts, each alone."""

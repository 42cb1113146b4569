"""Where the shipper delivers to: one file a backend, each imported only when it is used."""

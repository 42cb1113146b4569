"""From artifact events to records in the journal."""

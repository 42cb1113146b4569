"""What a user names in a text: a class by its path, an optional package, a name out of a few."""

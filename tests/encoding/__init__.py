"""From what is held to the file that is delivered."""

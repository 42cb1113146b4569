"""The training process: what ``start()`` builds, wires together, and takes down again."""

"""What the operating system does for a run inside somebody else's program: descriptors and shared memory."""

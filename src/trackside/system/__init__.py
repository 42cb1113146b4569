"""What a run needs of the operating system: files, locks, descriptors, shared memory, a clock."""

"""The commands of ``trackside``, one a file, added to the group in :mod:`trackside.cli.main`.

A command's module imports click and nothing heavy: all of them are loaded for every ``--help``.
What a command needs beyond that (torch, rich, the journal) it imports inside its function.
"""

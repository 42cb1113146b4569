"""The commands of ``trackside``, one in each file. :mod:`trackside.cli.main` adds them to its group.

A command's module imports click and nothing heavy, because every ``--help`` loads all of them. Imports of
torch, rich or the journal stand inside the command's function.
"""

"""The parent process of ``trackside run``: it starts your command, stands by, and ends as the command ended.

It lives as long as your training, once for each command, so it is small: it runs without ``site``, imports
the standard library and :mod:`trackside.system` only, and has no thread.

To follow it, read ``parent`` (the order of things). ``command`` starts your command, ``inbox`` receives
signals, ``witness`` tells which of them your command has got already, ``children`` waits for dead processes,
``job_control`` stops and continues, ``delivery`` waits for the shippers, ``unrecorded`` tells what went past
them, and ``leaving`` ends the process.
"""

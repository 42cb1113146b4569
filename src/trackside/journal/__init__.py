"""The journal: an append-only, crash-proof record of a run on local disk.

To follow a record, read ``format`` (its bytes), ``writer`` (appends in the training process) and
``reader`` (follows in the shipper). ``supply`` makes the next ``segment``, a file of records.
``cursor`` remembers how far a destination got, and ``scoreboard`` holds what must be noted without a lock.

``meta`` is what either side writes about itself, ``owner`` the process that writes the journal,
``progress`` the shipper's published state, ``outbox`` the artifacts that wait, ``family`` what parent
and child runs tell each other, and ``directory`` where all of it lies. ``opening``, ``files`` and
``lossless_json`` read and write the files.

Before a journal is used, ``trust`` and ``provenance`` ask whose it is, ``version`` asks for its format, and
``lock`` admits one shipper.
"""

"""The journal: an append-only, crash-proof record of a run on local disk.

``format`` says what bytes a record is, ``segment`` how a file of them is made, ``writer`` appends
in the training process, ``reader`` follows in the shipper, ``cursor`` remembers how far a
destination got, ``scoreboard`` holds what has to be noted without a lock, ``meta`` says what either
side writes about itself, ``progress`` keeps the shipper's part of that, ``outbox`` the artifacts
that wait to be uploaded, ``directory`` finds all of them.
"""

"""The shipper: the one process that talks to MLflow.

In the training process: ``process`` (spawn, watch, restart) and ``wakeup`` (the pipe to it).
In the shipper: ``loop`` (keep the journal), ``lane`` (read, send, acknowledge: one a destination),
``watch`` (is the trainer alive), ``evidence`` (what is known of its end), ``retry`` (when to try again),
``lock`` (one shipper a journal).
"""

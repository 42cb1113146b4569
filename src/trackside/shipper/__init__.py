"""The shipper: the one process that talks to MLflow.

In the training process: ``process`` (watch, restart), ``spawn`` (interpreter, import path, environment),
``wakeup`` (the pipe for signals) and ``channel`` (its word, and renewed credentials).
In the shipper: ``loop`` (keep the journal), ``worker`` (read, send, acknowledge: one a destination),
``watch`` (is the trainer alive), ``evidence`` (what is known of its end), ``retry`` (when to try again),
``lock`` (one shipper a journal), ``removal`` (was the journal removed).
For ``sync``: ``takeover`` (ask a shipper that fails to leave).
"""

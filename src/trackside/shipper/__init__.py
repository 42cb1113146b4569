"""The shipper: the sidecar process that delivers a journal.

* ``service`` is its main thread, ``worker`` the thread of one destination, and ``sending`` makes the calls.
* ``trainer`` and ``watch`` tell whether the training process lives, and ``judge`` how its run ended.
* ``spawn`` starts a shipper, and ``protocol`` is what it and the training process agree on.
* ``sync``, ``takeover`` and ``inventory`` serve the commands ``trackside sync`` and ``trackside status``.
"""

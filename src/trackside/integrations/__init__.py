"""Integrations: one file for each framework, which logs what the framework reports into a trackside run.

Import the file of your framework, such as :mod:`trackside.integrations.transformers`. Nothing imports these
files but you, and each of them imports its framework. If that is not installed, the ``ImportError`` names the
extra that brings it.

Invariants:

* An integration uses what every program can use: ``start()``, ``log()``, ``emit()`` and the members of a run.
* Which run it logs into, and who ends that run, is decided in one place
  (:mod:`trackside.integrations.training_run`).
* What a framework's callback logs never raises into the training. What it is given at its start may.
"""

from __future__ import annotations

"""What ``trackside.watch`` is made of: the norms of a model's gradients and parameters, logged as it trains.

A hook on torch's optimizers says when a step has been taken (:mod:`~trackside.watching.watch`). The
parameters are sorted into groups of layers (:mod:`~trackside.watching.groups`,
:mod:`~trackside.watching.members`), their norms are computed together (:mod:`~trackside.watching.norms`),
and the sample gets the step that you would log (:mod:`~trackside.watching.step_numbers`).

torch is never imported here. It is taken from ``sys.modules``, where your model has brought it.
"""

from __future__ import annotations

from trackside.watching.watch import Watch, unwatch, watch

__all__ = ["Watch", "unwatch", "watch"]

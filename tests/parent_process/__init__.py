"""``trackside run`` and the processes below it, all of them real."""

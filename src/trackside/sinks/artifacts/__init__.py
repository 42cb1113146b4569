"""From an artifact event to a held file and a record, in the training process: one file a kind.

``keeper`` is the way in. Each other module has one function from an event to a record. It raises
:class:`~trackside.errors.ArtifactError` for what can't be kept, with a text that says what to do.
"""

"""Journals in every format that trackside has had. They are read for ever."""

"""Tests of the journal: the bytes, the files, the two processes that share them."""

"""What a version of MLflow changes for trackside: ``python -m tests.newer_mlflow [VERSION]``.

================ ====================================================================
leaned_on.py     what of MLflow trackside calls or overrides, and the file that does
definitions.py   finds a definition in MLflow's sources, and everything it reaches
changes.py       compares both in two versions
tables.py        compares the tables that the bulk store writes, and the migrations
sources.py       fetches a version's sources from the package index
trial.py         installs a version into an environment of its own, and runs the tests
__main__.py      the command and its verdict
================ ====================================================================
"""

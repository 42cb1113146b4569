"""A tracking store for MLflow that keeps what an unchanged program logs in a journal.

    MLFLOW_TRACKING_URI=journal+https://mlflow.example.org python train.py

MLflow finds it by its entry points (:mod:`trackside.journal_store.plugin`). Metrics go over a bus into the
journal of their run. A shipper delivers them, and how the process ended decides the run's status. Everything
else goes to MLflow's own store for the inner address, unchanged.

=============== ====================================================================
address.py      ``journal+...`` checked, with an error that shows the right form
plugin.py       what MLflow's entry points name
store.py        the store's own methods
passing.py      everything that passes through to MLflow's own store
points.py       MLflow's metrics as samples
texts.py        params and tags
runs.py         which runs this process logs into, and when each of them ends
reads.py        reads that wait until what was logged before them is delivered
direct.py       a warning for runs that go past the journal store
queued_files.py files of a run, which go into its journal
artifacts.py    MLflow's own repositories of files, which get those calls in front
stock.py        what is leant on in MLflow, and is not public there
=============== ====================================================================

Nothing is imported here, so that ``import mlflow`` stays what it is.
"""

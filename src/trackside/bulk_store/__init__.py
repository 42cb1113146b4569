"""A tracking store for MLflow that writes metrics in bulk, on MLflow's own tables in sqlite and PostgreSQL.

    mlflow server --backend-store-uri trackside+postgresql://user@host/mlflow

MLflow finds it by its entry points (:mod:`trackside.bulk_store.plugin`). The shipper uses it directly.
Nothing here imports mlflow but :mod:`~trackside.bulk_store.store`, :mod:`~trackside.bulk_store.stock` and
the functions of the plug-in, when they are called.

============ =====================================================================
points.py    which batches are plain enough, their rows, and the latest row of each key
tables.py    the SQL, for each database
versions.py  the versions of MLflow that it supports
stock.py     what is leant on in MLflow, checked before it is used
store.py     the store
plugin.py    what MLflow's entry points name
uri.py       ``trackside+sqlite:///...`` and back
============ =====================================================================
"""

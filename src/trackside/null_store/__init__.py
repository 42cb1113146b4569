"""Stores for MLflow at ``trackside+null:``. They accept everything and keep nothing.

``run.activate()`` points MLflow's own API at them where a run is not logged: on other ranks, in disabled
mode, and offline. Code that calls ``mlflow.log_artifact()`` then works, and leaves nothing behind.

MLflow finds the stores by their entry points. Nothing is imported here.
"""

NULL_URI = "trackside+null://"

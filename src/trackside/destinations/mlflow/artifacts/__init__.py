"""Delivers files, pictures, tables, datasets and models to MLflow: one module a kind. Start at ``writer``."""

"""The MLflow destination: how runs, points, params, tags and artifacts reach a tracking server or store."""

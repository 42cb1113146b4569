"""scikit-learn with autolog: a search with child runs, a pipeline, metrics after the fit, an evaluation."""

import mlflow
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

mlflow.set_experiment("sklearn")
mlflow.sklearn.autolog(log_models=False)
x = np.random.default_rng(1).normal(size=(60, 3))
y = (x.sum(axis=1) > 0).astype(int)
GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, cv=2).fit(x, y)
with mlflow.start_run(run_name="mine"):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    accuracy_score(y, pipeline.predict(x))
    mlflow.log_metric("own", 1.0)
runs = mlflow.search_runs()
print(len(runs), sorted(str(status) for status in runs["status"]))

"""XGBoost with autolog: it logs from another thread, in batches."""

import mlflow
import numpy as np
import xgboost

mlflow.set_experiment("xgboost")
mlflow.xgboost.autolog(log_models=False, log_datasets=True)
x = np.random.default_rng(1).normal(size=(60, 3))
y = (x.sum(axis=1) > 0).astype(int)
matrix = xgboost.DMatrix(x, y)
options = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1}
xgboost.train(options, matrix, num_boost_round=12, evals=[(matrix, "train")], verbose_eval=False)
with mlflow.start_run(run_name="mine"):
    xgboost.train(options, matrix, num_boost_round=5, evals=[(matrix, "train")], verbose_eval=False)
    mlflow.log_metric("own", 1.0)

"""What MLflow's own tutorials do: the fluent API with every kind of file, dataset, model and trace."""

import matplotlib
import mlflow
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.linear_model import LinearRegression

matplotlib.use("agg")
import matplotlib.pyplot as plt

mlflow.set_experiment("made on the fly")
mlflow.set_experiment_tag("team", "vision")

with mlflow.start_run(run_name="first name", tags={"a": "1"}, description="about it") as run:
    mlflow.log_params({"lr": 0.1, "layers": [1, 2], "none": None, "flag": True, "empty": ""})
    for step in range(10):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"acc": step / 10, "lr": 1e-3}, step=step)
    mlflow.log_metric("numpy", np.float32(0.5))
    mlflow.log_metric("integer", 3)
    mlflow.log_metric("flag", True)
    mlflow.log_metric("earlier", 1.0, step=5, timestamp=1_700_000_000_000)
    mlflow.log_metric("loss", 9.0, step=3)
    mlflow.log_metric("negative", -1.0, step=-1)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    # Sorted: MLflow does not say in which order it gives points of one millisecond.
    print("history", sorted((point.step, point.value) for point in history))
    mlflow.set_tag("gone", 1)
    mlflow.set_tag("kept", {"a": 1})
    mlflow.delete_tag("gone")
    mlflow.log_text("text", "texts/a.txt")
    mlflow.log_dict({"b": 2, "a": 1}, "d.yaml")
    mlflow.log_table({"q": ["x", "y"], "n": [1, 2]}, "table.json")
    mlflow.log_table({"q": ["z"], "n": [3]}, "table.json")
    print(mlflow.load_table("table.json", run_ids=[run.info.run_id]).to_dict())
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    mlflow.log_figure(figure, "figure.png")
    mlflow.log_image(Image.new("RGB", (4, 4), "red"), "image.png")
    mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="stepwise", step=1)
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [2.0, 4.0, 6.0]})
    mlflow.log_input(mlflow.data.from_pandas(frame, name="frame", targets="y"), context="training")
    model = LinearRegression().fit(frame[["x"]], frame["y"])
    info = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"])
    mlflow.log_metric("on the model", 0.25, model_id=info.model_id)
    print("loaded", mlflow.pyfunc.load_model(info.model_uri).predict(frame[["x"]]).round(3).tolist())
    mlflow.register_model(info.model_uri, "registered")
    mlflow.set_tag("mlflow.runName", "by tag")
    print("now", mlflow.get_run(run.info.run_id).info.run_name)

with mlflow.start_run(run_name="before") as other:
    mlflow.MlflowClient().update_run(other.info.run_id, name="by update_run")
    mlflow.MlflowClient().set_tag(other.info.run_id, "mlflow.note.content", "a note")


@mlflow.trace
def add(a, b):
    return a + b


with mlflow.start_run(run_name="traced"):
    print(add(1, 2))
mlflow.flush_trace_async_logging()

with mlflow.start_run(run_name="outer"):
    mlflow.log_metric("m", 1)
    for name in ("in 1", "in 2"):
        with mlflow.start_run(run_name=name, nested=True):
            mlflow.log_metric("m", 2)
            with mlflow.start_run(run_name=f"{name} deeper", nested=True):
                mlflow.log_param("depth", 2)
    mlflow.log_metric("m", 3)
print(sorted(mlflow.search_runs(search_all_experiments=True)["tags.mlflow.runName"]))
print("active", mlflow.active_run(), mlflow.last_active_run().info.run_name)

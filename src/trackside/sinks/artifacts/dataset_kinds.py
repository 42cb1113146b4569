"""What is said of a dataset: its name, a digest, where it comes from, and what it looks like.

Datasets of MLflow, Hugging Face and torch, DataFrames, arrays, and files are told by what they can do.
None of these libraries is imported.
"""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trackside.errors import ArtifactError
from trackside.sinks.artifacts.digests import digest_of, digest_of_array, digest_of_frame, digest_of_path

_MOST_COLUMNS = 500
"""In a schema."""

_TYPES = {
    "int64": "long",
    "int32": "integer",
    "int16": "integer",
    "int8": "integer",
    "float64": "double",
    "float32": "float",
    "bool": "boolean",
    "object": "string",
    "str": "string",
    "string": "string",
    "Int64": "long",
    "Float64": "double",
    "Boolean": "boolean",
    "String": "string",
    "double": "double",
    "float": "float",
    "large_string": "string",
}
"""The types of columns in pandas, polars, pyarrow and Hugging Face, and MLflow's word for them."""


_PLAIN = (list, tuple, set, frozenset, bytes, bytearray, range, int, float, type)
"""What is no dataset, although some of them can be indexed."""


class Description(NamedTuple):
    """What MLflow stores of a dataset. The last three are JSON."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


def describe(dataset: Any) -> Description:
    """The description of ``dataset``. Raises :class:`ArtifactError` for what is no dataset."""
    if not isinstance(dataset, _PLAIN):
        for applies, description in _KINDS:
            if applies(dataset):
                return description(dataset)
    raise ArtifactError(
        f"log_dataset() can't describe a value of type {type(dataset).__name__}. Pass a dataset of "
        "mlflow.data, Hugging Face or torch, a DataFrame, an array, the path of a file, "
        "or a mapping with 'name', 'digest' and 'source'"
    )


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda dataset: all(hasattr(type(dataset), name) for name in names)


def _of_mlflow(dataset: Any) -> Description:
    with warnings.catch_warnings():  # MLflow gives hints on schemas, which a program may turn into errors
        warnings.simplefilter("ignore")
        found = dataset.to_dict()
    return _of_mapping(found)


def _of_mlflow_entity(dataset: Any) -> Description:
    return _of_mapping({name: getattr(dataset, name, None) for name in Description._fields})


def _of_mapping(found: Mapping[Any, Any]) -> Description:
    if not found.get("name") or not found.get("source"):
        raise ArtifactError(
            "a mapping that describes a dataset has at least a 'name' and a 'source'. "
            "Of several datasets, log each one by itself"
        )
    source = found["source"]
    kind = str(found.get("source_type") or ("code" if not isinstance(source, str) else "local"))
    return Description(
        str(found["name"]),
        str(found.get("digest") or digest_of(found["name"], source))[:36],
        kind,
        source if _is_json(source) else json.dumps({"uri": source} if isinstance(source, str) else source),
        _text(found.get("schema")),
        _text(found.get("profile")),
    )


def _is_json(text: Any) -> bool:
    return isinstance(text, str) and text.startswith("{")


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


def _of_hugging_face(dataset: Any) -> Description:
    info = getattr(dataset, "info", None)
    path = getattr(info, "dataset_name", None) or getattr(info, "builder_name", None)
    features = getattr(dataset, "features", None) or {}
    source = {
        "path": path,
        "config_name": getattr(info, "config_name", None),
        "data_dir": None,
        "data_files": None,
        "split": str(getattr(dataset, "split", None)),
        "revision": None,
    }
    columns = [(name, str(getattr(feature, "dtype", feature))) for name, feature in features.items()]
    fingerprint = getattr(dataset, "_fingerprint", None)
    rows = len(dataset) if hasattr(type(dataset), "__len__") else None
    return Description(
        str(path or "dataset"),
        str(fingerprint)[:16] if fingerprint else digest_of(source, columns),
        "hugging_face" if path else "code",
        json.dumps(source) if path else _code(),
        _column_schema(columns),
        None if rows is None else json.dumps({"num_rows": rows}),
    )


def _of_frame(frame: Any) -> Description:
    names = [str(name) for name in getattr(frame, "column_names", None) or list(frame.columns)]
    types = getattr(frame, "dtypes", None)
    types = frame.schema.types if types is None else types
    kinds = [str(kind) for kind in types]
    rows = int(frame.shape[0])
    return Description(
        "dataset",
        digest_of_frame(frame, names, kinds, rows),
        "code",
        _code(),
        _column_schema(list(zip(names, kinds, strict=False))),
        json.dumps({"num_rows": rows, "num_elements": rows * len(names)}),
    )


def _of_array(array: Any) -> Description:
    shape = [int(size) for size in array.shape]
    kind = str(array.dtype).rpartition(".")[2]
    spec = [{"type": "tensor", "tensor-spec": {"dtype": kind, "shape": [-1, *shape[1:]]}}]
    size = math.prod(shape)
    profile = {"features_shape": shape, "features_size": size, "features_nbytes": int(array.nbytes)}
    return Description(
        "dataset",
        digest_of_array(array),
        "code",
        _code(),
        json.dumps({"mlflow_tensorspec": {"features": json.dumps(spec), "targets": None}}),
        json.dumps(profile),
    )


def _of_loader(loader: Any) -> Description:
    return describe(loader.dataset)


def _of_subset(subset: Any) -> Description:
    inner = describe(subset.dataset)
    indices = subset.indices
    some = list(indices[:: max(1, -(-len(indices) // 1024))])
    return inner._replace(
        digest=digest_of(inner.digest, len(indices), [int(index) for index in some]),
        profile=json.dumps({"num_rows": len(indices)}),
    )


def _of_torch(dataset: Any) -> Description:
    """A map-style or iterable dataset: its class, its length, and the data and folder it has by custom."""
    kind = type(dataset)
    rows = len(dataset) if hasattr(kind, "__len__") else None
    root = getattr(dataset, "root", None)
    arrays = [getattr(dataset, name, None) for name in ("data", "targets", "labels")]
    arrays += list(getattr(dataset, "tensors", ()) or ())
    parts = [digest_of_array(array) for array in arrays if _is_array(array)]
    source = _at(root) if isinstance(root, (str, os.PathLike)) else _code()
    return Description(
        kind.__name__,
        digest_of(f"{kind.__module__}.{kind.__qualname__}", rows, parts, getattr(dataset, "train", None)),
        "local" if source != _code() else "code",
        source,
        None,
        None if rows is None else json.dumps({"num_rows": rows}),
    )


def _of_path(path: Any) -> Description:
    text = os.fspath(path)
    if not isinstance(text, str):
        text = os.fsdecode(text)
    scheme, separator, _ = text.partition("://")
    if separator and scheme != "file":
        kind, key = ("http", "url") if scheme in {"http", "https"} else (scheme, "uri")
        name = text.rstrip("/").rpartition("/")[2] or text
        return Description(name.partition("?")[0], digest_of(text), kind, json.dumps({key: text}))
    place = Path(text.removeprefix("file://"))
    if text and place.exists():
        return Description(place.stem or "dataset", digest_of_path(place), "local", _at(place))
    if isinstance(path, str) and text.strip(". ") and not place.suffix and not place.is_absolute():
        return Description(text, digest_of(text), "code", _code())
    raise ArtifactError(f"there is no file {text!r} for the dataset. Pass the path of one")


def _at(path: str | os.PathLike[str]) -> str:
    return json.dumps({"uri": os.path.abspath(path)})


def _code() -> str:
    """The source of what was made in the program: the program, as MLflow names it."""
    return json.dumps({"tags": {"mlflow.source.name": sys.argv[0] or "-", "mlflow.source.type": "LOCAL"}})


def _column_schema(columns: list[tuple[str, str]]) -> str | None:
    if not columns:
        return None
    specs = [{"type": _TYPES.get(kind, kind), "name": name, "required": True} for name, kind in columns]
    return json.dumps({"mlflow_colspec": specs[:_MOST_COLUMNS]})


def _is_array(value: Any) -> bool:
    return isinstance(getattr(value, "shape", None), tuple) and _has("tolist", "dtype")(value)


def _is_frame(value: Any) -> bool:
    return (_has("iloc")(value) and hasattr(value, "dtypes") and len(value.shape) > 1) or (
        _has("to_pylist", "column_names")(value) or _has("get_columns", "to_dicts")(value)
    )


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Description]], ...] = (
    (lambda it: isinstance(it, (str, os.PathLike)), _of_path),
    (_has("to_dict", "digest", "source", "profile"), _of_mlflow),
    (_has("source_type", "digest", "name", "to_dictionary"), _of_mlflow_entity),
    (lambda it: isinstance(it, Mapping), _of_mapping),
    (_is_frame, _of_frame),
    (_has("iloc", "to_frame"), lambda it: _of_frame(it.to_frame("value" if it.name is None else it.name))),
    (_is_array, _of_array),
    (_has("features", "info", "map"), _of_hugging_face),
    (lambda it: hasattr(it, "dataset") and hasattr(it, "indices"), _of_subset),
    (lambda it: hasattr(it, "dataset") and hasattr(it, "batch_size"), _of_loader),
    (lambda it: _has("__getitem__")(it) or _has("__iter__")(it), _of_torch),
)
"""Which kinds there are, the more special ones first."""

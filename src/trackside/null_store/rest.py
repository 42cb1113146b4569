"""The methods of an MLflow store that nothing needs an answer from."""

from __future__ import annotations

from typing import Any

from mlflow.store.entities.paged_list import PagedList


def with_the_rest(store: type[Any]) -> type[Any]:
    """``store`` with every public method that it only inherits answering nothing, or an empty page.

    Which methods there are depends on MLflow's version. What is asynchronous is built on the others.
    """
    rest = {name: _answer(name) for name in dir(store) if _is_of_the_rest(store, name)}
    return type(store.__name__, (store,), rest)


def _is_of_the_rest(store: type[Any], name: str) -> bool:
    inherited = name not in vars(store) and callable(getattr(store, name, None))
    return inherited and not name.startswith("__") and "async" not in name


def _answer(name: str) -> Any:
    several = name.lstrip("_").startswith(("search_", "list_"))

    def answer(_self: Any, *_arguments: Any, **_options: Any) -> Any:
        return PagedList([], None) if several else None

    return answer

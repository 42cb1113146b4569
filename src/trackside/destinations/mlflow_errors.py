"""What MLflow's errors mean for the shipper: try again, mend the credentials, or never.

Foreign errors are translated here and nowhere else. Sources: ``mlflow/exceptions.py`` (codes and their
HTTP status), ``mlflow/utils/rest_utils.py`` (everything that goes wrong on the way is a plain
``MlflowException`` whose context holds the ``requests`` error), ``mlflow/store/db/utils.py``
(``OperationalError`` becomes TEMPORARILY_UNAVAILABLE, other SQLAlchemy errors BAD_REQUEST).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from trackside.errors import DeliveryError, RejectedError, RetryableError, UnauthorisedError

_LASTING_CODES = {
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
    "BAD_REQUEST",
    "RESOURCE_CONFLICT",
    "NOT_IMPLEMENTED",
    "RESOURCE_LIMIT_EXCEEDED",
}
_CREDENTIAL_CODES = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_LASTING_STATUS = {400, 404, 405, 409, 413, 422, 501}
_STATUS_IN_TEXT = re.compile(r"(?:failed with error code|too many) (\d{3})")
_HOPELESS_TEXT = re.compile(r"unable to open database file|NoSuchModuleError|Can't load plugin", re.IGNORECASE)


def translate(error: BaseException) -> DeliveryError:
    """``error`` as a :class:`RetryableError`, :class:`UnauthorisedError` or :class:`RejectedError`."""
    if isinstance(error, DeliveryError):
        return error
    text = f"{type(error).__name__}: {error}"[:2000]
    code = str(getattr(error, "error_code", "") or "")
    status = _http_status(error)
    if code in _CREDENTIAL_CODES or status in {401, 403}:
        return UnauthorisedError(text)
    if _HOPELESS_TEXT.search(text) or _is_own_mistake(error):
        return RejectedError(text)
    if _passing_cause(error) or status in {408, 429}:
        return RetryableError(text)
    if code in _LASTING_CODES or status in _LASTING_STATUS:
        return RejectedError(text)
    return RetryableError(text)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _http_status(error: BaseException) -> int | None:
    """The response's status where the text names it (MLflow keeps no response on the exception)."""
    for item in _chain(error):
        found = _STATUS_IN_TEXT.search(str(item))
        if found:
            return int(found[1])
    return None


def _passing_cause(error: BaseException) -> bool:
    """Whether a network or database fault is behind it, whatever code MLflow gave it."""
    for item in _chain(error):
        module, name = type(item).__module__.partition(".")[0], type(item).__name__
        if module in {"requests", "urllib3", "socket"} and name not in {"InvalidURL", "InvalidSchema", "MissingSchema"}:
            return True
        if module == "sqlalchemy" and name not in {"StatementError", "ArgumentError", "DataError", "CompileError"}:
            return True
        if isinstance(item, (ConnectionError, TimeoutError)):
            return True
    return False


def _is_own_mistake(error: BaseException) -> bool:
    """An address that no server can ever be behind, or a driver that isn't installed."""
    names = {type(item).__name__ for item in _chain(error)}
    hopeless = {"InvalidURL", "InvalidSchema", "MissingSchema", "InvalidUrlException", "NoSuchModuleError"}
    unsupported = {"UnsupportedModelRegistryStoreURIException", "ModuleNotFoundError"}
    return bool(names & (hopeless | unsupported))

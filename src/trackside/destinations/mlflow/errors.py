"""What MLflow's errors mean for the shipper: retry, correct the credentials, or reject.

Errors of MLflow and of what it uses are translated here and nowhere else. The rule: a rejection counts only
in MLflow's own words (a JSON body with an ``error_code``), or if the status itself is about the body (413,
422). A load balancer, a gateway or a maintenance page speaks about the moment, not about the batch. Believing
it would throw away thousands of points.

Sources: ``mlflow/exceptions.py`` (codes and their HTTP status), ``mlflow/utils/rest_utils.py`` (what
goes wrong on the way is a plain ``MlflowException`` whose context holds the ``requests`` error),
``mlflow/store/db/utils.py`` (``OperationalError`` becomes TEMPORARILY_UNAVAILABLE, every other
SQLAlchemy error, an exhausted pool too, BAD_REQUEST).
"""

from __future__ import annotations

import re
import socket
import time
import traceback
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.errors import DeliveryError, RejectedError, RetryableError, UnauthorisedError
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


MAX_TEXT = 2000
_MAX_READ = 50_000
"""Characters that are masked. A text that is cut before it is masked may end in half a secret."""

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
_ABOUT_THE_BODY = {413, 422}
_STATUS_IN_TEXT = re.compile(r"(?:failed with error code|too many) (\d{3})")

_LASTING_SQL = {"ArgumentError", "CompileError", "DataError", "IntegrityError", "StatementError"}
# A server passes SQLAlchemy's errors on as text. The codes in its links name the class
# (sqlalchemy/exc.py): 9h9h is DataError, gkpj IntegrityError. All others are about the connection.
_SQL_IN_TEXT = re.compile(r"sqlalche\.me/e/\w+/(?!9h9h|gkpj)\w+")

_BY_NAME = {
    "SSLError": "the server's TLS certificate is not accepted",
    "ProxyError": "the HTTP proxy does not answer",
    "NameResolutionError": "the host name cannot be resolved",
    "ConnectTimeoutError": "no connection in time",
    "ConnectTimeout": "no connection in time",
    "ReadTimeoutError": "no answer in time",
    "ReadTimeout": "no answer in time",
    "RemoteDisconnected": "the server closed the connection",
    "IncompleteRead": "the server closed the connection",
}
_BY_TYPE: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "connection refused"),
    (ConnectionError, "the server closed the connection"),
    (socket.gaierror, "the host name cannot be resolved"),
)
_SERVERS_WORDS = {"AnswerError", "RestException"}
"""Errors that hold what the server said, and nothing else: the second is MLflow's."""

_LIBRARIES = {"requests", "urllib3", "http"}

_NOT_JSON = "response body was not in a valid JSON format"  # mlflow/utils/rest_utils.py

_NO_ADDRESS = {
    "ArgumentError",
    "InvalidSchema",
    "InvalidURL",
    "InvalidUrlException",
    "MissingSchema",
    "NoSuchModuleError",
    "UnsupportedModelRegistryStoreURIException",
}
_HOPELESS_TEXT = {
    "unable to open database file": "check that the folder of the sqlite file exists and can be written",
    "file is not a database": "the sqlite file holds something else: name another one",
    "out-of-date database schema": "the database belongs to another version of MLflow",
    "Can't locate revision": "the database belongs to another version of MLflow",  # in 3.6
}


class AnswerError(Exception):
    """A server answered a REST request of ours with another status than success."""

    def __init__(
        self, message: str, *, status: int, headers: Mapping[str, str], code: str | None = None
    ) -> None:
        super().__init__(message)
        self.answer = Answer(status, headers)
        self.error_code = code
        """MLflow's word for the error. None if the answer is not MLflow's."""


class Answer(NamedTuple):
    """The answer of an HTTP server, as far as it is known."""

    status: int
    headers: Mapping[str, str]


def translate(error: BaseException) -> DeliveryError:
    """``error`` as a :class:`RetryableError`, :class:`UnauthorisedError` or :class:`RejectedError`."""
    if isinstance(error, DeliveryError):
        return error
    text = reason_on_the_way(_chain(error)) or _text(error)
    answer = _answer(error)
    code = _own_code(error, answer)
    if code in _CREDENTIAL_CODES or (answer is not None and answer.status in {401, 403}):
        return UnauthorisedError(text, retry_after=_retry_after(answer))
    if code in _LASTING_CODES and not _is_passing_sql(error):
        return RejectedError(text)
    if any(isinstance(item, OverflowError) for item in _chain(error)):  # no column holds the value
        return RejectedError(text)
    if code is None and answer is not None and answer.status in _ABOUT_THE_BODY:
        return RejectedError(text)
    return RetryableError(text, retry_after=_retry_after(answer))


def translate_opening(error: BaseException) -> DeliveryError:
    """As :func:`translate`, before the run is known. An address that can never work is rejected.

    Later, the same words ("unable to open database file") are a passing fault: the address has worked before.
    """
    if isinstance(error, DeliveryError):
        return error
    advice = _advice(error)
    return translate(error) if advice is None else RejectedError(f"{advice} ({_text(error)})")


def _text(error: BaseException) -> str:
    told = type(error).__name__ in _SERVERS_WORDS
    text = str(error) if told else f"{type(error).__name__}: {error}"
    text = " ".join(redact(text[:_MAX_READ]).split())  # one line in the log
    return text[:MAX_TEXT]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _own_code(error: BaseException, answer: Answer | None) -> str | None:
    """MLflow's code for the error. None if the answer is a proxy's, or if there is no answer."""
    code = getattr(error, "error_code", None)
    if isinstance(error, AnswerError):
        return error.error_code
    if answer is None:  # a store in this process, or a client that refused to send
        return None if code == "INTERNAL_ERROR" else code
    body = getattr(error, "json", None)
    if isinstance(body, dict) and body.get("error_code"):
        return code
    return _code_in(getattr(error, "response", None))


def _code_in(response: Any) -> str | None:
    """MLflow's word in a ``requests`` response: for artifacts its client raises a plain ``HTTPError``."""
    try:
        return str(response.json()["error_code"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _answer(error: BaseException) -> Answer | None:
    """The HTTP answer behind ``error``.

    MLflow keeps no response on its exceptions, and the shipper needs the status (a gateway's JSON hides
    it) and ``Retry-After``. The functions that raised still hold the response, and the traceback them.
    """
    if isinstance(error, AnswerError):
        return error.answer
    for item in _chain(error):
        for frame, _ in reversed(list(traceback.walk_tb(item.__traceback__))):
            for value in list(frame.f_locals.values()):
                found = _as_answer(value)
                if found is not None:
                    return found
    found_in_text = (_STATUS_IN_TEXT.search(str(item)) for item in _chain(error))
    return next((Answer(int(match[1]), {}) for match in found_in_text if match), None)


def _as_answer(value: Any) -> Answer | None:
    """``value``, if it is a response of ``requests`` or of ``urllib3``."""
    kind = type(value)
    if kind.__module__ == "requests.models" and kind.__name__ == "Response":
        status = value.status_code
    elif kind.__module__ == "urllib3.response" and kind.__name__ == "HTTPResponse":
        status = value.status
    else:
        return None
    return Answer(status, value.headers) if status and status >= 400 else None  # noqa: PLR2004


def _retry_after(answer: Answer | None) -> float | None:
    """Seconds the server asks us to wait (RFC 9110, 10.2.3). None if it does not say.

    A date is by the server's clock, which its ``Date`` shows. Ours may differ.
    """
    if answer is None:
        return None
    text = (answer.headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdecimal():  # "²" is a digit, too
        return float(text)
    until, now = _seconds_in(text), _seconds_in(answer.headers.get("Date") or "")
    return None if until is None else max(0.0, until - (time.time() if now is None else now))


def _seconds_in(date: str) -> float | None:
    """A date of HTTP as seconds since the epoch. None for any other text."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):  # not a date
        return None


def _is_passing_sql(error: BaseException) -> bool:
    """Whether the database is the cause, rather than the data."""
    names = [type(e).__name__ for e in _chain(error) if _package(e) == "sqlalchemy"]
    if names:
        return not _LASTING_SQL.intersection(names)
    return getattr(error, "error_code", "") == "BAD_REQUEST" and bool(_SQL_IN_TEXT.search(str(error)))


def _advice(error: BaseException) -> str | None:
    """What to change if the address can never work. None if it may work."""
    text = str(error)
    known = next((advice for words, advice in _HOPELESS_TEXT.items() if words in text), None)
    if known is not None:
        return known
    for item in _chain(error):
        if isinstance(item, ModuleNotFoundError):
            return f"the database's driver is not installed: pip install what brings {item.name!r}"
        if type(item).__name__ in _NO_ADDRESS or _is_unparsable(item):
            return (
                "MLflow can't use this address. Write http(s)://host:port, "
                "sqlite:////folder/file.db or postgresql://host/database"
            )
    return None


def _is_unparsable(error: BaseException) -> bool:
    return type(error) is ValueError and ("URL" in str(error) or "invalid literal" in str(error))


def _package(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def reason_on_the_way(chain: Iterable[BaseException]) -> str | None:
    """Why the server gave no answer of its own, in a few words. None for every other error.

    ``requests`` and ``urllib3`` wrap a refused connection into four lines of text. The log has those.
    """
    errors = list(chain)
    if any(_NOT_JSON in str(error) for error in errors):
        return "the answer is not MLflow's: is there a login page or a proxy in between?"
    reason = _reason(
        [e for e in errors if _package(e) in _LIBRARIES], [e for e in errors if _package(e) not in _LIBRARIES]
    )
    pools = (getattr(error, "pool", None) for error in errors)
    pool = next((pool for pool in pools if pool is not None), None)
    host = None if pool is None else f"{getattr(pool, 'host', '')}:{getattr(pool, 'port', '')}"
    return reason if reason is None or host is None else f"{reason} ({host})"


def _reason(theirs: list[BaseException], pythons: list[BaseException]) -> str | None:
    """From the errors of the HTTP libraries, by name, or Python's behind them, by type."""
    if not theirs:
        return None
    by_name = (_BY_NAME.get(type(error).__name__) for error in theirs)
    by_type = (text for kind, text in _BY_TYPE if any(isinstance(error, kind) for error in pythons))
    systems = (e.strerror for e in reversed(pythons) if isinstance(e, OSError))
    return next((text for text in (*by_name, *by_type, *systems) if text), None)

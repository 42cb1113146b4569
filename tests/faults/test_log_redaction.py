"""Nothing the shipper's process writes shows credentials."""

from __future__ import annotations

import io

from tests.support.program import run_python
from trackside.redaction.known_values import know, passwords_in
from trackside.redaction.redact import secrets_among
from trackside.shipper.log_redaction import MaskedStream

SCRIPT = """
import logging, sys, warnings
from trackside.shipper.log_redaction import mask_output
mask_output("postgresql://user:p%40ssw0rd@host/db")
logging.basicConfig(level=logging.INFO)
print("connecting to postgresql://user:p%40ssw0rd@host/db")
logging.info("tried %s", "http://other:hunter22@host")
warnings.warn("the password is p@ssw0rd")
print("token", "tok3n-v4lue")
raise RuntimeError("could not parse postgresql://user:p%40ssw0rd@host/db")
"""


def test_output_logs_warnings_and_tracebacks() -> None:
    """Whoever writes, and whether the secret stands in an address or alone."""
    done = run_python("-c", SCRIPT, MLFLOW_TRACKING_TOKEN="tok3n-v4lue")
    text = done.stdout + done.stderr
    assert done.returncode == 1
    for secret in ("p%40ssw0rd", "p@ssw0rd", "hunter22", "tok3n-v4lue"):
        assert secret not in text
    for words in ("connecting to", "tried http://", "the password is ***", "RuntimeError", "Traceback"):
        assert words in text


def test_a_secret_in_two_pieces_is_found() -> None:
    """``print`` and loggers write in pieces. A line is looked at whole."""
    know(["hunter22"])
    stream = io.StringIO()
    masked = MaskedStream(stream)
    masked.write("pass hun")
    masked.flush()
    masked.write("ter22 here\nnext")
    assert stream.getvalue() == "pass *** here\n"
    masked.write("\n")
    assert stream.getvalue() == "pass *** here\nnext\n"


def test_what_is_secret_in_an_address() -> None:
    """The password, as spelt and as meant. An address that can't be parsed has none."""
    assert passwords_in("http://u:a%2Fb@h") == ["a%2Fb", "a/b"]
    assert passwords_in("sqlite:///x.db") == passwords_in("http://[::1") == []


def test_secrets_among_options() -> None:
    """Of a destination's options: what a mask is put on, and the password in an address."""
    options = {
        "second": {"tracking_uri": "http://me:hunter%202@host:5000", "experiment_name": "digits"},
        "mine": {"api_key": "k-123456", "hosts": ["a", "postgresql://u:sesame@b/c"]},
    }
    assert secrets_among(options) == ["hunter%202", "hunter 2", "k-123456", "sesame", "sesame"]
    assert secrets_among(None) == []

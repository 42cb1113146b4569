"""Secrets out of a configuration, before it reaches the disk or a server.

Two rules. A value is masked when its *key* looks secret: the key is split into words
(``hfToken``, ``HF_TOKEN`` and ``hf-token`` are all *hf, token*) and the words decide. And in every
*text* the credentials of URIs, query parameters and well-known token formats are masked.

The hard word is "token", which in machine learning is mostly not a secret. It counts only as the
last word; then the word before it decides (``auth``: yes; ``pad``: no), and where that says
nothing, the value does: ``<|im_end|>``, a number and a short word are not secrets.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MASK", "mask_secrets", "mask_uri"]

MASK = "***"

_SECRET_WORDS = frozenset("pwd secrets credential passwords passphrases apikeys bearer".split())
# As a word's end, because names such as PGPASSWORD are written in one.
_SECRET_ENDINGS = tuple(
    "password passwd passphrase secret credentials authorization apikey accesskey secretkey "
    "privatekey userpass accesstoken apitoken authtoken bearertoken hftoken refreshtoken "
    "sessiontoken".split()
)
# "key" and "pass" are secret in these company only (key_dim, forward_pass).
_SECRET_PAIRS = frozenset(
    tuple(pair.split())
    for pair in (
        "api key,api keys,access key,access keys,private key,private keys,secret key,account key,"
        "auth key,encryption key,signing key,master key,storage key,ssh key,license key,"
        "subscription key,wandb key,connection string,basic auth,proxy auth,http auth,"
        "db pass,user pass,smtp pass,redis pass,admin pass,root pass,mysql pass,postgres pass"
    ).split(",")
)
# What follows a secret word in the name of something that tells about the secret.
_ABOUT_WORDS = frozenset(
    "path file filename dir env envvar var name type ttl length len count enabled required".split()
)
# What may follow a secret word without changing what the value is.
_FILLER_WORDS = frozenset("value string str text plaintext encoded header".split())
_TOKEN_OWNERS = frozenset(
    "access account admin anthropic api app auth authentication aws azure bearer bot client comet "
    "csrf databricks deploy discord dockerhub gh git github gitlab hf hub huggingface id jwt "
    "login mlflow neptune npm oauth openai personal private pypi refresh registry sas security "
    "server service session slack telegram tracking vault wandb webhook xsrf".split()
)
_PLURAL_TOKEN_OWNERS = frozenset("access api auth bearer hf refresh".split())
_ML_TOKEN_WORDS = frozenset(
    "additional answer assistant audio begin beginning blank boa bob boi bos boundary class cls "
    "context dist dummy each end eoi eos eot eov fim first frame global image img "
    "instruct instruction language last latent mask model new newline next pad padding patch per "
    "placeholder prefix prompt query reasoning register response role sep separator sos special "
    "speech start stop suffix system target text think tool unk unknown video vision "
    "vocab word".split()
)
# Query parameters that are secret though a config's key of that name need not be.
_SECRET_PARAMETERS = frozenset(
    "key sig signature x-amz-signature sharedaccesssignature pass code odbc_connect".split()
)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SPECIAL_TOKEN = re.compile(r"\s*(?:[<\[{(|].{0,60}[>\])}|]|\u2581.{0,60})\s*", re.DOTALL)
_SHORTEST_SECRET = 8

# Anchored at "://" and bounded, so that a long text costs time in proportion to its length. The
# second form is a password with a slash in it, which SQLAlchemy takes; "host:80/a@b" is not that.
_USERINFO = re.compile(r"(?<=://)(?:[^\s/?#]{1,512}|[^\s/?#:@]{0,128}:(?!\d{1,5}[/?#])[^\s@]{0,512})@")
_PARAMETER = re.compile(
    r"(?P<lead>(?:[?&;(,\s]|--|^)(?P<name>[A-Za-z][\w.\-]{0,99})=)(?!\*{3})"
    r"""(?:'[^']{0,999}'|"[^"]{0,999}"|[^&;#\s'"]+)"""
)
_KNOWN_FORMAT = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|gh[opsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w\-]{16,}"
    r"|sk-[A-Za-z0-9_\-]{24,}|xox[abps]-[\w\-]{10,}|AKIA[A-Z0-9]{16}|dapi[0-9a-f]{32})"
    r"|(?<=Bearer )[\w.~+/\-]{8,}=*"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
)


def mask_secrets(plain: Any) -> Any:
    """A copy of ``plain`` (nested dicts, lists, tuples and scalars) with its secrets as ``***``.

    ``None``, booleans and empty strings stay, under any key: they tell only that a secret is unset
    or wanted. A dict or list under a secret key is masked whole.
    """
    if isinstance(plain, dict):
        return {key: _mask_entry(str(key), value) for key, value in plain.items()}
    if isinstance(plain, (list, tuple)):
        return type(plain)(_mask_items(plain))
    return mask_uri(plain) if isinstance(plain, str) else plain


def mask_uri(text: str) -> str:
    """``text`` with the credentials in it as ``***``.

    These are the user information of URIs (``scheme://user:pass@host``), secret parameters
    (``?password=...``, ``;AccountKey=...``, ``--api-key=...``), tokens of well-known services,
    bearer tokens and PEM private keys.
    """
    if "://" in text:
        text = _USERINFO.sub(f"{MASK}@", text)
    if "=" in text:
        text = _PARAMETER.sub(_mask_parameter, text)
    return _KNOWN_FORMAT.sub(MASK, text)


def with_credentials(address: str, candidate: str) -> str:
    """``candidate`` if it is the masked ``address`` with its credentials, otherwise ``address``."""
    return candidate if candidate and mask_uri(candidate) == address else address


def _mask_parameter(match: re.Match[str]) -> str:
    name = match["name"]
    secret = name.lower() in _SECRET_PARAMETERS and match["lead"][0] in "?&"
    secret = secret or _is_secret(name, MASK * _SHORTEST_SECRET)
    return match["lead"] + MASK if secret else match[0]


def _mask_entry(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool) or value == "":
        return value
    return MASK if _is_secret(key, value) else mask_secrets(value)


def _mask_items(items: Sequence[Any]) -> list[Any]:
    """Each item; what follows a secret option, as in ``["--api-key", "x"]``, is masked too."""
    masked = []
    option = ""
    for item in items:
        is_option = isinstance(item, str) and item.startswith("-")
        masked.append(_mask_entry("" if is_option else option, item))
        option = item if is_option and "=" not in item else ""
    return masked


def _is_secret(key: str, value: Any) -> bool:
    words = [word.lower() for word in _WORD.findall(key)]
    if not words or words[-1] in _ABOUT_WORDS:
        return False
    if any(pair in _SECRET_PAIRS for pair in pairwise(words)):
        return True
    while len(words) > 1 and words[-1] in _FILLER_WORDS:
        words.pop()
    if any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS) for word in words):
        return True
    if words[-1] in ("pass", "auth"):
        return len(words) == 1 and isinstance(value, str)
    return _is_secret_token(words, value)


def _is_secret_token(words: list[str], value: Any) -> bool:
    """Whether ``..._token`` is a credential, and not a piece of text."""
    owner = words[-2] if len(words) > 1 else ""
    if words[-1] == "tokens":
        return owner in _PLURAL_TOKEN_OWNERS and not isinstance(value, (int, float))
    if words[-1] != "token" or owner in _ML_TOKEN_WORDS:
        return False
    if isinstance(value, str) and _SPECIAL_TOKEN.fullmatch(value):
        return False
    known = owner in _TOKEN_OWNERS or len(words) == 1
    return known or (isinstance(value, str) and len(value) >= _SHORTEST_SECRET)

"""Which names stand for a secret: the keys of configurations, options and environment variables. Pure.

A name is split into words (``hfToken``, ``HF_TOKEN`` and ``hf-token`` are all *hf, token*), and the words
decide.

The hard word is "token", which in machine learning is mostly not a secret. It counts only as the last word.
Then the word before it decides (``auth``: yes; ``pad``: no). Where that says nothing, the value does:
``<|im_end|>``, a number and a short word are not secrets.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any

FIELD_NAMES = frozenset(
    "user username login email name host port id label labels text key value url password token".split()
)
"""What stands beside a secret's name in a list of names, and is not a value: ``["password", "username"]``."""

_SECRET_WORDS = frozenset(
    "pwd secrets credential passwords passphrases passcodes apikeys bearer otp totp cookie cookies".split()
)
# As a word's end, because names such as PGPASSWORD are written in one.
_SECRET_ENDINGS = tuple(
    "password passwd passphrase passcode secret credentials authorization apikey accesskey secretkey "
    "privatekey userpass accesstoken apitoken authtoken bearertoken hftoken refreshtoken "
    "sessiontoken".split()
)
# "key", "pass" and "code" are secret in these company only (key_dim, forward_pass, language_code).
_SECRET_PAIRS = frozenset(
    tuple(pair.split())
    for pair in (
        "api key,api keys,access key,access keys,private key,private keys,secret key,account key,"
        "auth key,encryption key,signing key,master key,storage key,ssh key,license key,deploy key,hmac key,"
        "subscription key,wandb key,openai key,anthropic key,comet key,azure key,connection string,"
        "basic auth,proxy auth,http auth,mfa code,otp code,pin code,pass word,pass phrase,pass code,"
        "github pat,gitlab pat,gh pat,azure pat,sas token,"
        "db pass,user pass,smtp pass,redis pass,admin pass,root pass,mysql pass,postgres pass"
    ).split(",")
)
# What follows a secret word in the name of something that tells about the secret.
_ABOUT_WORDS = frozenset(
    "path file filename dir directory folder sock socket env envvar var name type ttl length len count "
    "enabled required field column policy provider manager dim size steps index version format "
    "algorithm".split()
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

# Part of every name that stands for a secret, if word boundaries are left out.
_STEM = re.compile(
    r"pass|pwd|secret|cred|bearer|otp|cookie|key|pat|token|authorization|auth|jwt|connection|code",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SPECIAL_TOKEN = re.compile(r"\s*(?:[<\[{(|].{0,60}[>\])}|]|\u2581.{0,60})\s*", re.DOTALL)
_SHORTEST_TOKEN = 8
_PAIR = 2


def is_secret(name: str, value: Any) -> bool:
    """Whether ``value``, under ``name``, is a secret."""
    words = list(_words(name))
    if not words or words[-1] in _ABOUT_WORDS:
        return False
    if any(pair in _SECRET_PAIRS for pair in pairwise(words)):
        return True
    while len(words) > 1 and words[-1] in _FILLER_WORDS:
        words.pop()
    if any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS) for word in words):
        return True
    if words[-1] == "jwt":
        return isinstance(value, str)
    if words[-1] in {"pass", "auth"}:
        return len(words) == 1 and _is_text_or_pair(value)
    return _is_secret_token(words, value)


@lru_cache(maxsize=4096)
def _words(name: str) -> tuple[str, ...]:
    """The words of a name that may stand for a secret. Most names have none, which is quick to see."""
    if _STEM.search(name) is None:
        return ()
    return tuple(word.lower() for word in _WORD.findall(name))


def _is_text_or_pair(value: Any) -> bool:
    """``auth`` is a text, or a user and a password. Anything else of that name is a section."""
    if isinstance(value, (list, tuple)):
        return len(value) == _PAIR and all(isinstance(item, (str, bytes)) for item in value)
    return isinstance(value, (str, bytes))


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
    return known or (isinstance(value, str) and len(value) >= _SHORTEST_TOKEN)

r"""Secrets in a text, by form: behind a name that stands for one, in an address, of a known make. Pure.

Invariants:

* The time is in proportion to the length of the text, whatever the text is: each expression starts at
  something rare, and each repeat that could start twice is bounded.
* Masking what is masked already changes nothing.
* In doubt about where a value ends, more of the text is masked, not less.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from trackside.redaction.names import FIELD_NAMES, is_secret

if TYPE_CHECKING:
    from collections.abc import Callable

MASK = "***"

# Anchored at "://" and bounded, so that a long text costs time in proportion to its length. The
# second form is a password with a slash in it, which SQLAlchemy takes. "host:80/a@b" is not that.
_USERINFO = re.compile(r"(?<=://)(?:[^\s/?#]{1,512}|[^\s/?#:@]{0,128}:(?!\d{1,5}[/?#])[^\s@]{0,512})@")
# "me:x@proxy", where no scheme says that it is an address. What is a number is a device, or a time.
_BARE_USERINFO = re.compile(
    r"(?<![\w./@:+%-])(?P<user>[A-Za-z][\w.+-]{0,63}):(?!\d+@|/)(?P<password>[^\s@/:'\"]{1,200})"
    r"@(?!sha256:|sha512:)(?P<host>[A-Za-z0-9][\w.-]{0,200}(?::\d{1,5})?)"
)
_NOT_USERS = frozenset(
    "author authors by cc contact email from mail mailto maintainer owner reply sip to user xmpp".split()
)

_QUOTE = r"""(?P<quote>\\{0,8}["'])"""
_QUOTED = rf"[bBrRuUfF]{{0,2}}{_QUOTE}(?:[^\n]{{0,8000}}?(?<!\\)(?P=quote)|[^\n]*)"
_BARE = r"""(?:[^&;#\s'"\\]|\\(?!["'])){1,4000}"""
_NAME = r"(?P<name>[A-Za-z_][\w.\-]{0,99})"
_SEPARATOR = r"(?:=>|:=|[=:]|%3[AaDd])"
_ASSIGNED = re.compile(
    rf"""(?P<lead>(?P<start>^[ \t]*(?:-[ ]+)?(?:export[ ]+)?)?(?<![\w])(?:\\{{0,8}}["'])?{_NAME}"""
    rf"""(?:\\{{0,8}}["'])?\]?(?P<between>[ \t]{{0,8}}{_SEPARATOR}[ \t]{{0,8}}))""",
    re.MULTILINE,
)
_VALUE = re.compile(rf"{_QUOTED}|{_BARE}")
_REST_OF_BARE = re.compile(r"""(?:[^&;#\s'"\\]|\\(?!["']))*""")
_REST_OF_LINE = re.compile(r"[^\n]*")
_BLOCK = re.compile(
    rf"^(?P<lead>(?P<indent>[ \t]*)(?:- )?[\"']?{_NAME}[\"']?:[ ]*[|>][+-]?\d?[ ]*\n)"
    r"(?P<value>(?:(?P=indent)[ \t]+[^\n]*(?:\n|\Z))+)",
    re.MULTILINE,
)
_OPTION = re.compile(rf"(?P<lead>(?<![\w-])--?{_NAME}[ \t]+)(?P<value>{_QUOTED}|[^\s\-'\"]\S*)")
_NAMED = re.compile(  # {"name": "DB_PASSWORD", "value": ...}, and the same in YAML and XML
    rf"""(?P<lead>\b(?:name|key|variable|header)\\{{0,8}}["']?\s{{0,8}}[:=]\s{{0,8}}\\{{0,8}}["']?{_NAME}"""
    rf"""\\{{0,8}}["']?\s{{0,8}},?\s{{0,40}}\\{{0,8}}["']?value\\{{0,8}}["']?\s{{0,8}}[:=]\s{{0,8}})"""
    rf"(?P<value>{_QUOTED}|{_BARE})",
    re.IGNORECASE,
)
_PAIR = re.compile(  # ("password", "x")
    rf"""(?P<lead>[(\[]\\{{0,8}}["']{_NAME}\\{{0,8}}["']\s{{0,8}},\s{{0,8}})(?P<value>{_QUOTED})(?=\s{{0,8}},?[)\]])"""
)
_SAID = re.compile(  # password 'x', the password is x7
    r"(?P<lead>\b(?P<name>password|passwd|passphrase|passcode|api[ -]key|secret|token)(?:[ ](?:is|was))?[ ])"
    rf"(?P<value>{_QUOTED}|(?=[^\s\d]{{0,99}}\d)[^\s'\"\\=:]{{4,}})",
    re.IGNORECASE,
)
_ELEMENT = re.compile(rf"(?P<lead><{_NAME}>)(?P<value>[^<\n]{{1,8000}})(?=</)")
_TUPLE = re.compile(  # auth=("me", "x"), HTTPBasicAuth("me", "x")
    r"""(?P<lead>(?:\b(?:[A-Za-z_]{0,40}_)?auth\\{0,8}["']?[ ]?[=:][ ]?[(\[]|\b[A-Za-z]{0,40}Auth\()"""
    r"\s{0,8}[bru]{0,2})"
    r"""(?:(?P<user>'[^'\n]{0,999}'|"[^"\n]{0,999}"|[^\s,()'"\]]{1,200})\s{0,8},\s{0,8})"""
    r"""(?P<value>[^)\]\n]{1,999})"""
)
_HEADER = re.compile(
    r"""(?P<lead>\b(?:proxy-)?authorization\\{0,8}["']?\s{0,8}[:=,]\s{0,8}[bru]{0,2}\\{0,8}["']?"""
    r"(?:(?:basic|bearer|digest|token|negotiate|apikey|aws4-hmac-sha256)[ ]+)?)(?P<value>[^\"'\n\\]+)"
    r"""|(?P<cookie>\b(?:set-)?cookie\\{0,8}["']?\s{0,8}[:=,]\s{0,8}[bru]{0,2}\\{0,8}["']?)(?:[^"'\n\\]+)""",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"(?P<lead>\b(?:Bearer|Basic)[ ]+)(?P<value>[\w.~+/\-]{8,}=*)")
_NETRC = re.compile(
    r"(?P<lead>\blogin\s{1,8}\S{1,200}\s{1,8}(?:account\s{1,8}\S{1,200}\s{1,8})?password\s{1,8})\S+"
)
_CURL = re.compile(
    r"""(?P<lead>(?<=\s)(?:-u|--user|--proxy-user|-U)[ =]*["']?[^\s:'"]{0,200}:)[^\s'"]+|"""
    r"(?P<flag>(?:\bsshpass|\bmysql\w*|\b(?:docker login|redis-cli)\b[^\n]{0,200})[ ]+-[pa][ ]*|"
    r"\bmysql\w*[ ][^\n]{0,200}[ ]-p)\S+"
)
_SQL = re.compile(r"""(?P<lead>\b(?:identified\s{1,8}by)\s{1,8})(?:'[^'\n]*'|"[^"\n]*"|\S+)""", re.IGNORECASE)
_WEBHOOK = re.compile(
    r"(?P<lead>(?:hooks\.slack\.com/(?:services|workflows|triggers)|discord(?:app)?\.com/api/webhooks"
    r"|[\w.-]{0,99}office(?:365)?\.com/webhook\w{0,9}|hooks\.zapier\.com/hooks/catch"
    r"|maker\.ifttt\.com/(?:trigger/[^/\s]{1,99}/(?:json/)?)?with/key|(?:feishu\.cn|larksuite\.com)/open-apis/bot/v2/hook"
    r"|api\.telegram\.org/bot|hooks\.\w[\w.-]{0,99})/?)(?P<value>[^\s'\"<>),;?#]+)"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----[^-]*"
    r"(?:-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?|\bAGE-SECRET-KEY-1[A-Z0-9]+"
)
_KNOWN_MAKE = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|gl(?:pat|dt|rt)-[\w\-]{16,}"
    r"|sk-[A-Za-z0-9_\-]{24,}|[sr]k_(?:live|test)_\w{16,}|xox[abeprs]-[\w\-]{10,}|xapp-[\w\-]{10,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|dapi[0-9a-f]{32}|AIza[\w\-]{35}|ya29\.[\w\-]{20,}|npm_[A-Za-z0-9]{36}"
    r"|pypi-[\w\-]{50,}|SG\.[\w\-]{16,}\.[\w\-]{16,}|hv[sb]\.[\w\-]{20,}|dckr_pat_[\w\-]{20,}"
    r"|nvapi-[\w\-]{30,}|gsk_[A-Za-z0-9]{30,}|(?:bot)?\d{8,10}:AA[\w\-]{33,}|eyJ[\w\-]{8,}\.eyJ[\w\-]{8,}\.[\w\-]{8,})"
)
_SHORTEST_MAKE = 14
# Query parameters that are secret though a config's key of that name need not be.
_SECRET_PARAMETERS = frozenset(
    "key sig signature x-amz-signature sharedaccesssignature pass code odbc_connect".split()
)
_PARAMETER = re.compile(r"""(?P<lead>[?&;](?P<name>[A-Za-z][\w.\-]{0,99})=)(?!\*{3}|['"])[^&;#\s'"]+""")

# Without one of these no expression but those of addresses and known makes can match.
_STEM = re.compile(
    "pass|pwd|secret|token|key|auth|cred|cookie|otp|bearer|basic|jwt|pat|connection|code|identified|curl|"
    "mysql|login|redis-cli"
)
# What stands after a name in source code, or says that there is no value.
_NOT_A_VALUE = re.compile(
    r"(?:none|null|nil|true|false|str|bytes|int|any|optional\b.*|\*{3,}.*|<[^>]{0,60}>|"
    r"\$\{?\w+\}?.*|os\.(?:environ|getenv).*|getpass\b.*|(?:self|cls|args|cfg|config|settings|kwargs)[.\[].*)",
    re.IGNORECASE,
)
_CLOSING = ",)]}"
_WORDS_OF_PROSE = frozenset({"token", "tokens", "auth", "pass", "secret", "key", "cookie", "cookies"})
_SCHEMES = frozenset("basic bearer digest token negotiate apikey aws4-hmac-sha256".split())


def mask_address(text: str) -> str:
    """``text`` with the credentials of addresses and tokens of known makes as ``***``.

    The same in every process, whatever the secrets it knows: masked addresses are compared.
    """
    if "://" in text:
        text = _USERINFO.sub(f"{MASK}@", text)
    if "=" in text:
        text = _PARAMETER.sub(_mask_parameter, text)
    if "hook" in text or "api.telegram" in text:
        text = _WEBHOOK.sub(_keep_lead, text)
    if "-----BEGIN" in text or "AGE-SECRET" in text:
        text = _PRIVATE_KEY.sub(MASK, text)
    if len(text) >= _SHORTEST_MAKE:
        text = _SCHEME.sub(_keep_lead, _KNOWN_MAKE.sub(MASK, text))
    return text


def mask_forms(text: str) -> str:
    """``text`` with everything as ``***`` that has the form of a secret."""
    if len(text) < _SHORTEST_MAKE and text.isidentifier():  # most keys and values of a configuration
        return text
    text = mask_address(text)
    if "@" in text and ":" in text:
        text = _BARE_USERINFO.sub(_mask_bare, text)
    lower = text.lower()
    if _STEM.search(lower) is None:
        return text
    for stem, mask in _STEPS:
        if stem in lower:
            text = mask(text)
    return text


def _keep_lead(match: re.Match[str]) -> str:
    return match["lead"] + MASK


def _mask_parameter(match: re.Match[str]) -> str:
    name = match["name"]
    secret = name.lower() in _SECRET_PARAMETERS and match["lead"][0] != ";"
    secret = secret or is_secret(name, MASK * 8)
    return match["lead"] + MASK if secret else match[0]


def _mask_bare(match: re.Match[str]) -> str:
    if match["user"].lower() in _NOT_USERS or match["password"] == MASK:
        return match[0]
    return f"{match['user']}:{MASK}@{match['host']}"


def _mask_value(match: re.Match[str]) -> str:
    """Mask the value behind a name, if the name stands for a secret and the value is one."""
    return match["lead"] + _masked(match) if _is_value(match["name"], match["value"]) else match[0]


def _masked(match: re.Match[str]) -> str:
    """The mask in the quotes of the value, so that JSON stays JSON."""
    quote = match.groupdict().get("quote")
    return f"{quote}{MASK}{quote}" if quote and match[0].endswith(quote) else MASK


def _mask_pair(match: re.Match[str]) -> str:
    value = match["value"].strip("\\\"'")
    return match[0] if value.lower() in FIELD_NAMES else _mask_value(match)


def _mask_header(match: re.Match[str]) -> str:
    lead = match["lead"] or match["cookie"]
    return lead + MASK if match["value"] is None or MASK not in match["value"] else match[0]


def _mask_second(match: re.Match[str]) -> str:
    return match[0][: match.start("value") - match.start()] + MASK


def _mask_flag(match: re.Match[str]) -> str:
    return (match["lead"] or match["flag"]) + MASK


def _mask_block(match: re.Match[str]) -> str:
    if not is_secret(match["name"], match["value"]):
        return match[0]
    return f"{match['lead']}{match['indent']}  {MASK}\n"


def _is_value(name: str, value: str) -> bool:
    bare = re.sub(r"""^[bBrRuUfF]{0,2}\\*["']|\\*["']$""", "", value)
    unquoted = bare == value
    if unquoted:
        bare = bare.rstrip(_CLOSING)
    if not bare or MASK in bare or bare.lower() in _SCHEMES or _NOT_A_VALUE.fullmatch(bare):
        return False
    if unquoted and bare.rpartition(".")[2].lower() == name.lower():  # password=password
        return False
    return is_secret(name, _literal(bare))


def _literal(value: str) -> str | float:
    try:
        return float(value)
    except ValueError:
        return value


def _mask_assigned(text: str) -> str:
    """``name = value``, ``"name": "value"`` and their like, in JSON, YAML, a repr or a shell."""
    pieces, position = [], 0
    while (match := _ASSIGNED.search(text, position)) is not None:
        found = _VALUE.match(text, match.end()) if _may_be_secret(match["name"]) else None
        end = None if found is None else _end_of_value(match, found)
        pieces.append(text[position : match.end()])
        if found is None or end is None:  # a value may itself begin with a name: look again right there
            position = match.end()
        else:
            pieces.append(_masked(found))
            position = end
    return "".join([*pieces, text[position:]])


@lru_cache(maxsize=1000)
def _may_be_secret(name: str) -> bool:
    return is_secret(name, MASK * 8)


def _end_of_value(match: re.Match[str], found: re.Match[str]) -> int | None:
    """Where the secret ``found`` behind a name ends, or None if there is no secret."""
    name, value, text = match["name"], found[0], found.string
    if not _is_value(name, value):
        return None
    if found["quote"] is not None:
        return found.end()
    rest = _REST_OF_BARE.match(text, found.end())
    end = found.end() if rest is None else rest.end()
    while text[end - 1] in _CLOSING and end > found.start():
        end -= 1
    if match["between"].strip() != ":":
        return end
    if match["start"] is not None:  # a line of YAML, or a header
        line = _REST_OF_LINE.match(text, end)
        return end if line is None else line.end()
    # "Unexpected token: foo" is prose.
    prose = name.lower() in _WORDS_OF_PROSE and not any(letter.isdigit() for letter in value)
    return None if prose else end


def _each(expression: re.Pattern[str], replace: Callable[[re.Match[str]], str]) -> Callable[[str], str]:
    return lambda text: expression.sub(replace, text)


_STEPS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("authorization", _each(_HEADER, _mask_header)),
    ("cookie", _each(_HEADER, _mask_header)),
    ("auth", _each(_TUPLE, _mask_second)),
    ("value", _each(_NAMED, _mask_value)),
    (":", _each(_BLOCK, _mask_block)),
    ("", _mask_assigned),
    ("-", _each(_OPTION, _mask_value)),
    (",", _each(_PAIR, _mask_pair)),
    (" ", _each(_SAID, _mask_value)),
    ("</", _each(_ELEMENT, _mask_value)),
    ("login", _each(_NETRC, _keep_lead)),
    (" -", _each(_CURL, _mask_flag)),
    ("identified", _each(_SQL, _keep_lead)),
)
"""What has to be in the lower-case text, and what masks it then. Headers come before names."""

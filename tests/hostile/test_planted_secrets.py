"""Secrets as programs, servers and people write them are masked, and other text is not."""

from __future__ import annotations

import base64
import html
import json
import time
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile.innocent_keys import KEYS
from trackside.journal.format import ConfigRecord, encode
from trackside.params import flatten_params, to_plain
from trackside.redaction import known_values
from trackside.redaction.known_values import know
from trackside.redaction.redact import redact, redact_config
from trackside.session.arguments import checked_config

X = "xK7qpLw92mZt"
"""The secret. No environment variable holds it and it has no known make: only the shape tells."""

TEXTS = [
    # options
    f"run: train.py --password {X} --lr 0.1",
    f"train.py --db-password={X}",
    f"train.py --api-key '{X}'",
    f'train.py --hf-token "{X}" --fast',
    f"java -Djavax.net.ssl.keyStorePassword={X} -jar a.jar",
    f"curl -u me:{X} https://host/x",
    f"curl --user 'me:{X}' https://host/x",
    f"curl -H 'Authorization: token {X}' https://host",
    f"curl -H 'X-Api-Key: {X}' https://host",
    f"sshpass -p {X} ssh host",
    f"mysql -p{X} -u root",
    f"mysqldump -h db -u root -p{X} train",
    f"https://api.example.com/bot123456789:AA{X:x<33}/sendMessage",
    f"=== Running 'docker run --rm -e AWS_SECRET_ACCESS_KEY={X} -e AWS_REGION=eu me/image' ===",
    f"docker login -u me -p {X} registry.io",
    # assignments
    f"DB_PASSWORD={X}",
    f"export HF_TOKEN={X}",
    f"password = '{X}'",
    f"Config(host='h', password='{X}', port=1)",
    f'Config(api_key="{X}")',
    f"password=b'{X}'",
    f"host=h user=u password={X} dbname=d",
    f"Server=s;Uid=sa;Pwd={X};",
    f"passcode: {X}",
    f"otp={X}",
    f"the passphrase is {X}",
    f"Access denied, using password '{X}'",
    f"ALTER USER me IDENTIFIED BY '{X}'",
    # JSON, YAML, XML, a repr
    json.dumps({"password": X, "user": "me"}),
    json.dumps(json.dumps({"password": X})),
    json.dumps(json.dumps(json.dumps({"api_key": X}))),
    str({"password": X, "user": "me"}),
    repr(str({"secret": X})),
    json.dumps({"password": f'a"b\\{X}'}),
    json.dumps([{"name": "DB_PASSWORD", "value": X}]),
    f"env:\n  - name: DB_PASSWORD\n    value: {X}\n",
    f"db:\n  user: me\n  password: {X}\n  port: 1\n",
    f"db:\n  password: two words {X}\n",
    f"secret: |\n  first line\n  {X}\nport: 1\n",
    str(("password", X)),
    str([("user", "me"), ("password", X)]),
    f"<password>{X}</password>",
    f'<add key="ApiKey" value="{X}"/>',
    f"kwargs={{'auth': ('me', '{X}')}}",
    f"requests.get(url, auth=('me', '{X}'))",
    f"auth=HTTPBasicAuth('me', '{X}')",
    f"auth=(user, {X})",
    # headers
    f"Authorization: Basic {X}==",
    f"Authorization: Bearer {X}",
    f"> authorization: {X}",
    f"Proxy-Authorization: Digest username=me, response={X}",
    f"X-Auth-Token: {X}",
    f"Cookie: theme=dark; session={X}",
    f"Set-Cookie: sid={X}; Path=/; HttpOnly",
    str({"Authorization": f"Bearer {X}", "Accept": "*/*"}),
    str({"Cookie": f"a=1; sid={X}"}),
    # addresses
    f"postgresql://me:{X}@host:5432/db",
    f"could not reach me:{X}@proxy",
    f"HTTP_PROXY me:{X}@proxy.corp:3128",
    f"https://host/v1?key={X}&page=2",
    f"https://host/callback?code={X}",
    f"https://hooks.slack.com/services/T0001/B0001/{X}",
    f"https://discord.com/api/webhooks/123456/{X}",
    f"https://api.telegram.org/bot12345:{X}/sendMessage",
    f"https://corp.webhook.office.com/webhookb2/{X}@y/IncomingWebhook/z",
    f"password%3D{X}%26user",
    # files
    f"machine host login me password {X}",
    f"[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = {X}\n",
    f"-----BEGIN RSA PRIVATE KEY-----\n{X}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN OPENSSH PRIVATE KEY-----\\n{X}\\n-----END OPENSSH PRIVATE KEY-----",
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{X}\n-----END PGP PRIVATE KEY BLOCK-----",
    f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{X}",
]

CONFIGS: list[Any] = [
    {"env": [{"name": "DB_PASSWORD", "value": X}]},
    {"env": [{"key": "API_KEY", "value": 1, "default": X}]},
    {"pair": ("password", X)},
    {"pairs": [["Authorization", X], ["Accept", "*/*"]]},
    {"argv": ["--api-key", X]},
    {"argv": [b"--api-key", X.encode()]},
    {"argv": f"--password {X}"},
    {"request": {"auth": ("me", X)}},
    {"basic_auth": ["me", X]},
    {"passcode": X},
    {"otp": 123456, "totp": X},
    {"cookies": {"session": X}},
    {"headers": {"Cookie": f"sid={X}"}},
    {"password": X.encode()},
    {"note": f"password={X}".encode()},
    {"payload": json.dumps({"db": {"password": X}})},
    {"proxy": f"me:{X}@proxy"},
    {"slack_webhook": f"https://hooks.slack.com/services/T/B/{X}"},
    {"id_rsa": f"-----BEGIN EC PRIVATE KEY-----\n{X}\n-----END EC PRIVATE KEY-----"},
    {f"https://me:{X}@host": 1},
    {"github_pat": X, "jwt": X},
    {"logger": {"wandb": {"key": X, "project": "p"}}},
    {"docker_env": {"environment": [["MLFLOW_SNOW_PWD", X], "MLFLOW_SNOW_USER"]}},
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_text_is_masked_by_its_shape(text: str) -> None:
    """Whatever wrote it: a shell, a serialiser, a server, a person. Masking again changes nothing."""
    masked = redact(text)
    assert X not in masked
    assert "***" in masked
    assert redact(masked) == masked


@pytest.mark.parametrize("config", CONFIGS)
def test_a_secret_in_a_configuration_is_masked_by_its_shape(config: Any) -> None:
    """In the whole document, and in the params that are made of it at any depth."""
    for masked in (redact_config(config), redact_config(to_plain(config))):
        assert X not in str(masked)
        assert redact_config(masked) == masked
    for depth in (0, 1, None):
        assert X not in str(flatten_params(config, depth))


def test_a_secret_in_the_text_of_an_object_is_masked() -> None:
    """A configuration shows objects by their repr, which may quote what they were made with."""
    client = type("Client", (), {"__repr__": lambda _self: f"Client(host='h', password='{X}')"})()
    assert flatten_params({"client": client}) == {"client": "Client(host='h', password='***')"}


def test_what_stands_around_a_secret_stays() -> None:
    """A line of a log is still of use."""
    assert (
        redact(f"retry 3: me:{X}@proxy:3128 said 407 (took 2 s)")
        == "retry 3: me:***@proxy:3128 said 407 (took 2 s)"
    )
    assert redact(f"curl -u me:{X} https://host/x") == "curl -u me:*** https://host/x"
    assert redact(json.dumps({"password": X, "lr": 0.1})) == '{"password": "***", "lr": 0.1}'


INNOCENT_TEXTS = [
    "Unexpected token: } in JSON at position 4",
    "def login(user: str, password: str, token: Optional[str] = None) -> None:",
    "    return login(user, password=password, token=self.token)",
    "tokenizer: bert-base, max_tokens: 512, key: value",
    'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n    main()',
    "loss: 0.5 at cuda:0@node1, step 3",
    "docker.io/org/image:tag@sha256:0123456789abcdef",
    "contact:jane@uni.edu, mailto:jane@uni.edu",
    "git@github.com:org/repo.git",
    "KeyError: 'tokens'",
    "--tokenizer bert --num-tokens 5 --key-dim 3",
    "the password is required",
    "password must be set",
    "No API token found for `hub_token`",
    '{"pad_token": "<pad>", "eos_token": "</s>", "bos_token": null}',
    "('token', 'label')",
    "author: Jane Doe",
    "os.environ['HF_TOKEN']",
    "accuracy: 0.5; passes: 3",
    "basic authentication is not supported",
    "12:30:15 step 4",
]


@pytest.mark.parametrize("text", INNOCENT_TEXTS)
def test_an_innocent_text_stays(text: str) -> None:
    """Source lines, error messages and ML vocabulary are what a log is read for."""
    assert redact(text) == text


@pytest.mark.parametrize("value", ["a-9f86d081884c7d65", 512, "<|im_end|>", ["a", "b"]])
def test_keys_of_real_configurations_stay(value: Any) -> None:
    """Of trainers, models and launchers: what people compare runs by, whatever its value looks like."""
    config = dict.fromkeys(KEYS, value)
    assert len(config) >= 200
    assert {key: kept for key, kept in redact_config(config).items() if kept != value} == {}
    text = "\n".join(f"{key}={value}" for key in KEYS)
    assert redact(text) == text
    for line in (f"--{key} {value}" for key in KEYS):
        assert redact(line) == line


KNOWN = "Zq7-wL/x+9=kT 'v\"m&é"
"""A value with everything that is spelt differently somewhere."""

SPELLINGS = {
    "as it is": KNOWN,
    "in an address": quote(KNOWN, safe=""),
    "in a path": quote(KNOWN),
    "in a form": quote_plus(KNOWN),
    "in lower case": quote(KNOWN, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "in JSON": json.dumps(KNOWN),
    "in JSON as it is read": json.dumps(KNOWN, ensure_ascii=False),
    "in JSON in JSON": json.dumps(json.dumps({"note": KNOWN})),
    "in a repr": repr(KNOWN),
    "as bytes": repr(KNOWN.encode()),
    "in HTML": html.escape(KNOWN),
    "in hexadecimal": KNOWN.encode().hex(),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_a_known_value_is_masked_in_every_spelling(spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server quotes what it was sent in its own way. Nothing around the value says that it is one."""
    monkeypatch.setenv("SOME_SERVICE_TOKEN", KNOWN)
    assert spelling not in redact(f"the server said {spelling} at noon")
    assert redact(f"the server said {spelling} at noon").endswith(" at noon")


@pytest.mark.parametrize("before", ["", "u", "me:", "you:", "user:"])
def test_a_known_value_is_masked_in_base64(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Basic authentication encodes the password behind the user's name, at any offset."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse-77")
    encoded = base64.b64encode(f"{before}correct-horse-77".encode()).decode()
    masked = redact(f"sent {encoded} twice")
    assert "***" in masked
    assert not any(encoded[i : i + 8] in masked for i in range(len(before) * 4 // 3 + 1, len(encoded) - 8))


def test_what_counts_as_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords in addresses, too. Not what is short, common, a directory or a file's path."""
    for name, value in {
        "DATABASE_URL": "postgresql://me:s%40rong-one@host/db",
        "MLFLOW_TRACKING_TOKEN": "tok3n-v4lue",
        "AWS_SECRET_ACCESS_KEY": "/abc+defghijklmnop",
        "MLFLOW_TRACKING_PASSWORD": "mlflow",
        "USE_AUTH_TOKEN": "true",
        "PAD_TOKEN": "<padding>",
        "MAX_TOKENS": "40960000",
        "PWD": "/home/somebody",
        "GOOGLE_APPLICATION_CREDENTIALS": "/home/me/key.json",
        "DB_PASSWORD": "12345",
        "CREDENTIALS_DIRECTORY": "/run/credentials/a.service",
        "TOKENIZERS_PARALLELISM": "parallel",
    }.items():
        monkeypatch.setenv(name, value)
    for secret in ("s@rong-one", "s%40rong-one", "tok3n-v4lue", "/abc+defghijklmnop"):
        assert secret not in redact(f"got {secret}")
    innocent = "mlflow true <padding> 40960000 /home/somebody/x /home/me/key.json 12345 parallel"
    innocent += " /run/credentials/a.service"
    assert redact(innocent) == innocent


def test_what_is_told_is_known() -> None:
    """A configuration's secrets, on every rank. A credential in use may be short, and then stands alone."""
    checked_config({"db": {"password": X, "name": "imagenet"}})
    assert redact(f"refused {X} for imagenet") == "refused *** for imagenet"
    know(["s3s4"])
    assert redact("the s3s4") == "the s3s4"
    know(["s3s4", "loss", "1234"], shortest=4)
    assert redact("the s3s4 of res3s4x, loss 1234") == "the *** of res3s4x, loss 1234"


def test_a_changed_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs load their credentials late, from a file or a vault."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert redact("late-credential") == "late-credential"
    monkeypatch.setenv("HF_TOKEN", "late-credential")
    assert redact("late-credential") == "***"


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
LETTERS = st.text("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", min_size=10, max_size=38).map(
    lambda letters: f"zQ{letters}x"  # no word of the program's own, which Hypothesis likes to draw
)
SECRET_KEYS = st.sampled_from(
    ["password", "HF_TOKEN", "api-key", "clientSecret", "db_passwd", "authorization"]
)


@given(st.data(), LETTERS, NESTED, NESTED)
def test_a_planted_secret_never_comes_out(data: st.DataObject, secret: str, around: Any, beside: Any) -> None:
    """Under a secret key at any depth, and, when it is known, in any key or text of the configuration."""
    config: Any = {data.draw(SECRET_KEYS): secret, "beside": beside}
    for wrap in data.draw(st.lists(st.sampled_from("dlt"), max_size=4)):
        config = (
            {"in": config, "x": around} if wrap == "d" else [around, config] if wrap == "l" else (config,)
        )
    assert secret not in _everything_of({"top": config})
    known_values._told.clear()  # of earlier examples
    know([secret])
    left, right = data.draw(st.text(max_size=8)), data.draw(st.text(max_size=8))
    known = {"top": [around, {f"{left}{secret}{right}": f"{right}{secret}{left}", "bytes": secret.encode()}]}
    assert secret not in _everything_of(known)


def _everything_of(config: dict[str, Any]) -> str:
    """The bytes that a configuration leaves the process as: the document and the params, journaled."""
    document = redact_config(to_plain(config))
    texts = [encode(ConfigRecord(0, 0, flatten_params(config, depth), document)) for depth in (0, 1, None)]
    return b"".join(texts).decode("utf-8", "replace")


@pytest.mark.parametrize(
    "piece",
    [
        *("password=", 'password="', "password: '", "--password ", "a:b@", "auth=(", "-u a:", "Cookie: "),
        *("a=", '\\"a\\":', "<token>", "name: token ", "secret: |\n", "('token',", "token is ", "login a "),
        *("hooks.slack.com/services/", "a-", "mysql -p", "docker login ", "password%3D", '"\\'),
    ],
)
@pytest.mark.outside
def test_hostile_texts_take_time_in_proportion(piece: str) -> None:
    """A server's answer or a traceback of 200,000 characters holds nothing up."""
    start = time.process_time()
    redact(("password token auth cookie value login :-" + piece) + piece * (200_000 // len(piece)))
    assert time.process_time() - start < 10

"""Secrets out, machine learning's vocabulary left in."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackside.redaction.forms import MASK
from trackside.redaction.redact import redact, redact_config

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc ", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner),
)


@pytest.mark.parametrize(
    "key",
    """
    token hf_token HF_TOKEN hfToken hf-token HFToken auth_token access_token accessToken api_token
    github_token GITHUB_TOKEN gh_token wandb_token DATABRICKS_TOKEN slack_bot_token oauth2_token
    refresh_token session_token id_token hub_token huggingface_token aws_session_token token_value
    MLFLOW_TRACKING_TOKEN mlflow.tracking.token hf_token_2 api_tokens some_vendor_token
    password PASSWORD db_password dbPassword password_2 PGPASSWORD passwd MYSQL_PWD passphrase
    ssh_passphrase MLFLOW_TRACKING_PASSWORD admin_pass pass user_pass
    secret secrets client_secret clientSecret secret_key AWS_SECRET_ACCESS_KEY aws_secret_access_key
    api_key apiKey APIKey apikey APIKEY WANDB_API_KEY openai_api_key api-key x-api-key api_keys
    access_key access_key_id accesskey account_key AccountKey private_key privateKey
    credential credentials db_credentials GOOGLE_APPLICATION_CREDENTIALS
    authorization Authorization proxy-authorization basic_auth auth connection_string
    """.split(),
)
def test_keys_that_are_secret(key: str) -> None:
    """Vendors, cases and spellings that configurations hold."""
    assert redact_config({key: "3f9a8b7c6d5e"}) == {key: MASK}


@pytest.mark.parametrize(
    "key",
    """
    max_tokens num_tokens maxTokens n_tokens tokens tokenizer tokenizer_name tokenizerPath
    token_count token_embedding token_type_ids token_ids tokens_per_second tokens_per_batch
    pad_token eos_token bos_token unk_token sep_token cls_token mask_token image_token video_token
    audio_token pad_token_id eosTokenId decoder_start_token_id special_tokens stop_token next_token
    additional_special_tokens use_cls_token time_to_first_token loss_per_token start_token end_token
    detokenize retokenized token_dropout max_new_tokens image_token_index token_level_loss
    key keys key_dim query_key_value num_key_value_heads monkey primary_key sort_key
    key_padding_mask forward_pass num_passes pass_at_1 passes bypass compass two_pass
    author authors auth_type secretary password_file secret_name credentials_path api_key_env
    hf_token_path api_key_name private private_dataset access accessor signal score
    """.split(),
)
def test_keys_that_are_not_secret(key: str) -> None:
    """Vocabularies, counts, paths and the like are what people compare runs by."""
    assert redact_config({key: "3f9a8b7c6d5e"}) == {key: "3f9a8b7c6d5e"}


@pytest.mark.parametrize("value", ["<|im_end|>", "[MASK]", "</s>", "<pad>", "▁", "abc", 7, 1.5])
def test_a_token_of_unknown_kind_is_judged_by_its_value(value: object) -> None:
    """Special tokens, short words and numbers are no credentials."""
    assert redact_config({"weird_token": value}) == {"weird_token": value}


@pytest.mark.parametrize("value", [None, True, False, ""])
def test_unset_secrets_and_flags_stay(value: object) -> None:
    """That a token is not set, or is used, is worth knowing."""
    assert redact_config({"use_auth_token": value}) == {"use_auth_token": value}


@pytest.mark.parametrize("value", [1234, 1.5, ["a", "b"], {"user": "u"}, ("a",)])
def test_secrets_of_every_type_are_masked_whole(value: object) -> None:
    """Numbers are passwords too, and so are lists of them."""
    assert redact_config({"password": value}) == {"password": MASK}


def test_secrets_are_found_at_any_depth() -> None:
    """In dicts, lists and tuples, which keep their types."""
    plain: Any = {"a": [{"b": ({"hf_token": "x"}, 1)}], "urls": ["s3://k:s@bucket", 2]}
    assert redact_config(plain) == {
        "a": [{"b": ({"hf_token": MASK}, 1)}],
        "urls": ["s3://***@bucket", 2],
    }


def test_the_argument_is_left_alone() -> None:
    """Training continues with the real password."""
    plain = {"db": {"password": "x"}, "list": ["http://u:p@h"]}
    redact_config(plain)
    assert plain == {"db": {"password": "x"}, "list": ["http://u:p@h"]}


def test_the_value_after_a_secret_option_is_masked() -> None:
    """Configurations keep the command line as a list."""
    argv = ["train.py", "--hf-token", "x", "--lr", "0.1", "--password=y", "--use-auth-token"]
    assert redact_config({"argv": argv}) == {
        "argv": ["train.py", "--hf-token", MASK, "--lr", "0.1", "--password=***", argv[-1]]
    }


@given(PLAIN)
def test_what_holds_no_secret_is_unchanged(plain: Any) -> None:
    """Masking is the identity on ordinary data."""
    assert redact_config(plain) == plain


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://user:pa$$@host:5432/db", "postgresql://***@host:5432/db"),
        ("postgresql+psycopg2://u:p@ss@host/db", "postgresql+psycopg2://***@host/db"),
        ("mysql://u:sl/ash@host/db", "mysql://***@host/db"),
        ("redis://:pw@host", "redis://***@host"),
        ("https://sometoken@github.com/x.git", "https://***@github.com/x.git"),
        ("two: a://u:p@h and b://u:p@h", "two: a://***@h and b://***@h"),
        ("http://h/x?password=p&y=1&token=t#f", "http://h/x?password=***&y=1&token=***#f"),
        ("https://h/b?sv=1&sig=ab%3D&se=2", "https://h/b?sv=1&sig=***&se=2"),
        ("https://h/?X-Amz-Signature=abc", "https://h/?X-Amz-Signature=***"),
        ("https://h/v1?key=AIza123", "https://h/v1?key=***"),
        (
            "AccountName=n;AccountKey=k==;EndpointSuffix=s",
            "AccountName=n;AccountKey=***;EndpointSuffix=s",
        ),
        ("Server=s;Password=p;", "Server=s;Password=***;"),
        ("DB(host='h', password='two words')", "DB(host='h', password='***')"),
        ("Authorization: Bearer abcdefgh.ij", "Authorization: Bearer ***"),
        ("key hf_abcdefghijklmnopqrstuvwxyz1234", "key ***"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "***"),
        ("AKIAABCDEFGHIJKLMNOP", "***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----", "***"),
    ],
)
def test_credentials_in_text_are_masked(text: str, masked: str) -> None:
    """And only they. Masking again changes nothing."""
    assert redact(text) == masked
    assert redact(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/users/me@example.com",
        "s3://bucket/key@version",
        "sqlite:////tmp/mlflow.db",
        "me@example.com",
        "max_tokens=5;lr=0.1,num_tokens=3",
        "https://h/?key_dim=3&page=2",
        "x = 'eos_token=</s>'",
        "meta-llama/Llama-3",
        "sk-learn",
        "hf_model",
        "",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    """Ports, paths, addresses and ML settings are no credentials."""
    assert redact(text) == text


@pytest.mark.parametrize(
    "piece", ["a", "://", "://a:", "a=", "a='", '?a="', "-----BEGIN PRIVATE KEY-----", "hf_"]
)
def test_long_texts_take_time_in_proportion(piece: str) -> None:
    """No hostile or merely long value can hold up the start of a training."""
    start = time.process_time()
    redact(piece * (60_000 // len(piece)))
    assert time.process_time() - start < 5

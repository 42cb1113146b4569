"""Params and tags in few calls: nothing is lost, doubled or out of order on the way into parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trackside.journal.format import ConfigRecord, ParamsRecord, TagsRecord, TextsRecord
from trackside.shipper import parts
from trackside.shipper.parts import head_of, merged, parts_of

texts = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("123"), max_size=4)
kinds = st.sampled_from([ParamsRecord, TagsRecord])
records = st.lists(
    st.builds(lambda kind, texts: kind(0, 1, texts), kinds, texts)
    | st.builds(lambda texts: ConfigRecord(0, 1, texts, {}), texts),
    max_size=30,
)


def delivered(given_records: list[TextsRecord]) -> list[TextsRecord]:
    """What a destination gets, call by call."""
    calls = []
    rest = given_records
    while rest:
        head = head_of(rest)
        assert head, "nothing would ever be sent"
        calls += [merged(part) for part in parts_of(head)]
        rest = rest[len(head) :]
    return calls


def outcome(calls: list[TextsRecord]) -> tuple[dict[str, str], dict[str, str], int]:
    """Params, of which the first value stays, tags, of which the last one does, and configurations."""
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    for record in calls:
        if isinstance(record, TagsRecord):
            tags.update(record.texts)
        elif isinstance(record, ParamsRecord):
            params = {**record.texts, **params}
        else:
            params = {**record.params, **params}
    return params, tags, sum(isinstance(record, ConfigRecord) for record in calls)


@given(records)
def test_few_calls_come_to_the_same_as_many(given_records: list[TextsRecord]) -> None:
    """Whatever is mixed with whatever."""
    for seq, record in enumerate(given_records, 1):
        record.seq = seq
    assert outcome(delivered(given_records)) == outcome(given_records)


@given(records)
def test_every_changed_value_is_sent(given_records: list[TextsRecord]) -> None:
    """So that a destination can tell of each value that a param was not given."""
    values = {
        item for record in given_records if isinstance(record, ParamsRecord) for item in record.texts.items()
    }
    calls = delivered(given_records)
    assert {i for call in calls if isinstance(call, ParamsRecord) for i in call.texts.items()} == values


def test_a_call_has_a_size() -> None:
    """Also where one record is larger than a call."""
    many: list[TextsRecord] = [ParamsRecord(n, 1, {f"p{n}": "x"}) for n in range(2500)]
    many.append(ParamsRecord(2500, 1, {f"q{n}": "x" for n in range(2500)}))
    sizes = [len(call.texts) for call in delivered(many) if isinstance(call, ParamsRecord)]
    assert sum(sizes) == 5000
    assert max(sizes) == parts.MOST_AT_ONCE
    assert len(sizes) <= 7

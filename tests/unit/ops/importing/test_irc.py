"""IRC logs: what a line says, when, and as which event."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from ops.importing.irc import IrcMessage, IrcMove, date_in, drafts, offsets_s, parse, source_id, user_of
from streams.channel import parse_channel
from streams.events import CATALOGUE

DAY = date(2005, 2, 27)
CHANNEL = parse_channel("acme", "conversation:ubuntu")


def at(hour: int, minute: int, day: int = 27) -> datetime:
    return datetime(2005, 2, day, hour, minute)


def test_a_message_has_its_nick_its_time_and_its_text() -> None:
    """`[HH:MM] <nick> text`, the text kept as it is, trailing blanks and all."""
    assert list(parse(["[04:59] <ra>  ok, so [x] <y> \n"], DAY)) == [IrcMessage(1, at(4, 59), "ra", " ok, so [x] <y> ")]


@pytest.mark.parametrize(
    ("line", "nick", "text", "is_action"),
    [
        ("[11:30] <selinium>", "selinium", "", False),
        ("[05:00] <John[1] > hi", "John[1]", "hi", False),
        ("[01:09] (soundray/#ubuntu) thomas: look", "soundray", "thomas: look", False),
        ("[12:00]  * Pelo shivers", "Pelo", "shivers", True),
        ("[12:00] * Pelo", "Pelo", "", True),
    ],
)
def test_forms_of_saying(line: str, nick: str, text: str, is_action: bool) -> None:
    """Empty messages, padded nicks, relayed messages and actions occur in real logs."""
    event = next(parse([line], DAY))

    assert event == IrcMessage(1, at(int(line[1:3]), int(line[4:6])), nick, text, is_action)


def test_joins_leaves_and_renames_carry_the_time_before_them() -> None:
    """Such lines have no time of their own; a rename is a leave and a join."""
    events = parse(
        [
            "[05:00] <a> x",
            "=== robertj [~robertj@66-188.example]  has joined #ubuntu",
            '=== mre [~mre@user.example]  has left #Ubuntu ["Leaving"]',
            "=== komA is now known as koma",
            "=== [cc] smart [n=[cc] smar@gw.example]  has joined #ubuntu",
        ],
        DAY,
    )

    assert list(events)[1:] == [
        IrcMove(2, at(5, 0), "robertj", is_join=True),
        IrcMove(3, at(5, 0), "mre", is_join=False),
        IrcMove(4, at(5, 0), "komA", is_join=False),
        IrcMove(4, at(5, 0), "koma", is_join=True),
        IrcMove(5, at(5, 0), "[cc]smart", is_join=True),
    ]


@pytest.mark.parametrize(
    "line",
    ["", "=== Topic for #ubuntu: has joined us", "=== GammaRay sneaks in", "[5:00] <a> x", "<a> x", "[05:00] a x"],
)
def test_what_is_not_understood_is_passed_over(line: str) -> None:
    """Nothing is guessed."""
    assert list(parse([line], DAY)) == []


def test_midnight_begins_the_next_day_and_a_clock_set_back_does_not() -> None:
    """A fall of half a day is midnight; a smaller one keeps the time standing."""
    events = list(parse(["[23:59] <a> 1", "[00:01] <a> 2", "[00:00] <a> 3", "[00:02] <a> 4"], DAY))

    assert [event.at for event in events] == [at(23, 59), at(0, 1, 28), at(0, 1, 28), at(0, 2, 28)]


def test_impossible_times_do_not_stop_the_reader() -> None:
    """`[29:75]` is read as the last minute of the day."""
    assert next(parse(["[29:75] <a> x"], DAY)).at == at(23, 59)


def test_events_of_one_minute_are_spread_over_it() -> None:
    """Logs tell minutes only; replaying in real time must not send a minute's messages at once."""
    events = list(parse(["[00:00] <a> 1", "[00:00] <a> 2", "[00:02] <a> 3"], DAY))

    assert offsets_s(events) == [0.0, 30.0, 120.0]


def test_the_day_is_read_from_the_files_name() -> None:
    """As the corpus names its files; a name without a date, or with an impossible one, has none."""
    assert date_in("2005-02-27.train-c.raw.txt") == DAY
    assert date_in("ubuntu.log") is None
    assert date_in("2005-13-99.txt") is None


def test_nicks_become_names_without_collisions() -> None:
    """A nick's brackets, backslashes and carets are not letters of a name."""
    assert user_of("D[4]ni") == "D~5b4~5dni"
    assert user_of("robertj") == "robertj"
    assert len({user_of(nick) for nick in ("a[", "a]", "a{", "a^", "a`", "a\\", "é", "e")}) == 8
    assert len(user_of("[" * 200)) == 128


def test_every_draft_is_what_its_sender_could_have_written() -> None:
    """Messages pass the catalogue's own validation, the empty one included, and every key is its line's."""
    lines = ["[05:00] <D[4]ni> hé \x00", "[05:00] <b>", "[05:01]  * b waves", "=== komA is now known as koma"]

    made = list(drafts(parse(lines, DAY), CHANNEL, "s"))

    for draft in made[:3]:
        CATALOGUE["chat.message"].model.model_validate_json(draft.data)
    assert [draft.type for draft in made] == ["chat.message"] * 3 + ["channel.presence"] * 2
    assert [draft.command for draft in made] == ["irc:s:1", "irc:s:2", "irc:s:3", "irc:s:4", "irc:s:4b"]
    assert made[0].actor.id == "D~5b4~5dni"


def test_a_log_that_grew_is_the_same_log() -> None:
    """The source is its name and first line, so importing it again adds only what is new."""
    assert source_id("a.txt", "x") == source_id("a.txt", "x")
    assert len({source_id("a.txt", "x"), source_id("b.txt", "x"), source_id("a.txt", "y")}) == 3

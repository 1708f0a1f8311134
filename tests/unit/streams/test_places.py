"""The forms of REDIS_URL."""

from __future__ import annotations

import pytest

from streams.redis.places import Form, Host, parse_place


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://u:p@h/3?health_check_interval=5", "unix:///run/s?db=1"])
def test_the_url_of_one_server_is_left_as_it_is(url: str) -> None:
    assert (parse_place(url).form, parse_place(url).url) == (Form.ONE, url)


def test_a_cluster_names_servers_that_share_login_and_options() -> None:
    place = parse_place("rediss+cluster://u:p%40s@h:7000,[::1]:7001,other?ssl_ca_certs=%2Fca")

    assert place.seeds == (Host("h", 7000), Host("::1", 7001), Host("other", 6379))
    assert place.url_of(place.seeds[1]) == "rediss://u:p%40s@[::1]:7001/0?ssl_ca_certs=%2Fca"


def test_sentinels_have_a_login_of_their_own() -> None:
    place = parse_place("redis+sentinel://u:p@s1,s2:5/main?db=2&sentinel_username=w&sentinel_password=a%2Fb")

    assert (place.form, place.name, place.seeds) == (Form.SENTINEL, "main", (Host("s1", 26379), Host("s2", 5)))
    assert place.url_of(Host("h", 7)) == "redis://u:p@h:7/2"
    assert place.sentinel_url(place.seeds[0]) == "redis://w:a%2Fb@s1:26379"


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://s1:5",  # no name
        "redis+sentinel://s1:5/a/b",
        "redis+sentinel://s1:5/main?db=x",
        "redis+sentinel:///main",
        "redis+cluster://h:1,,h:2",
        "redis+cluster://h:0",
        "redis+cluster://h:99999",
        "redis+cluster://h:1/main",
        "redis+cluster://h:1?db=1",
        "redis+one://h:1",
        "http+cluster://h:1",
        "redis+pool://h:1",
    ],
)
def test_what_is_missing_or_wrong_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_place(url)

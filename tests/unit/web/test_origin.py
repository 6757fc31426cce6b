"""What a request's headers say about where it comes from."""

from __future__ import annotations

import pytest

from agents.web import origin


@pytest.mark.parametrize("site", ["cross-site", "same-site", "SAME-ORIGIN", "", "anything"])
def test_what_the_browser_calls_another_origin_is_not_ours(site: str) -> None:
    assert not origin.fetched_here([(b"host", b"localhost"), (b"sec-fetch-site", site.encode())])


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_our_own_pages_and_the_person_are(site: str) -> None:
    assert origin.fetched_here([(b"sec-fetch-site", site.encode())])
    assert not origin.fetched_here([(b"sec-fetch-site", site.encode()), (b"sec-fetch-site", b"cross-site")])
    assert origin.fetched_here([])


@pytest.mark.parametrize(
    ("referer", "found"),
    [
        ("http://localhost:8000/launch?x=1", b"http://localhost:8000"),
        ("http://localhost:8000@evil.test/", b"http://localhost:8000@evil.test"),
        ("/launch", b""),
        ("", b""),
        ("http://[localhost/", b""),
    ],
)
def test_a_referer_names_an_origin(referer: str, found: bytes) -> None:
    assert origin.referred_from(referer) == found


def test_a_name_in_front_of_the_host_is_no_origin() -> None:
    headers = [(b"host", b"localhost:8000"), (b"origin", origin.referred_from("http://localhost:8000@localhost:8000/"))]
    assert not origin.same_origin(headers, scheme="http")


@pytest.mark.parametrize(
    ("lines", "times"),
    [
        ([b"a=1"], 0),
        ([b"s=1"], 1),
        ([b"s=1; a=2; s=3"], 2),
        ([b"s=1;s =3"], 2),
        ([b"s=1", b"s=3"], 2),
        ([b"s; s=3"], 2),
        ([b"ss=1; s-s=2; a=s=3"], 0),
    ],
)
def test_cookies_of_one_name_are_counted(lines: list[bytes], times: int) -> None:
    assert origin.times_sent([(b"cookie", line) for line in lines], "s") == times

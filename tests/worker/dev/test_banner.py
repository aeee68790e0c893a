"""What a newcomer reads."""

import shlex

from worker.dev.banner import banner, trial


def test_line_to_try_has_the_key_but_for_one_that_the_shell_knows() -> None:
    body = b'{"job": "it\'s"}'
    plain = shlex.split(trial("http://here", body, None, is_exported=False))
    assert plain == ["curl", "-i", "http://here/api/v1/jobs", "-d", body.decode()]
    shown = shlex.split(trial("http://here", body, 'a "$key"', is_exported=False))
    assert 'Authorization: Bearer a "$key"' in shown
    assert '-H "Authorization: Bearer $EMBARQ_API_KEY" ' in trial("http://here", body, "own", is_exported=True)


def test_banner_says_how_to_go_on() -> None:
    plain = "\n".join(banner("http://here", 2.34, "curl x", reload=False, in_colour=False))
    assert "\x1b" not in plain
    assert all(words in plain for words in ("after 2.3 s", "http://here/", "Try:  curl x", "Ctrl-C stops everything."))
    assert "A change of the code" in "\n".join(banner("http://here", 1.0, "", reload=True, in_colour=True))

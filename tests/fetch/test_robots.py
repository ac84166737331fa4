"""Whose rules are ours in a robots.txt, against an independent reading of RFC 9309, and files that cannot be read."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from pipelines.fetch.robots import MAX_BYTES, Rules, Unreadable, text_of


def allowed(text: str, path: str, token: str = "janus-forge") -> bool:
    return Rules("robots.txt", text, token).refusal(f"http://site.test{path}") is None


def by_the_book(text: str, path: str, token: str) -> bool:
    """RFC 9309 for well-formed files, written from its section 2 and with regular expressions."""
    groups: list[tuple[set[str], list[tuple[bool, str]]]] = []
    naming = False
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        name, value = (part.strip() for part in line.split(":", 1))
        if name.lower() == "user-agent":
            if not naming:
                groups.append((set(), []))
            groups[-1][0].add(value.lower())
            naming = True
        else:
            naming = False
            if groups and value:
                groups[-1][1].append((name.lower() == "allow", value))
    ours = [rule for agents, rules in groups if token in agents for rule in rules]
    named = any(token in agents for agents, _ in groups)
    rules = ours if named else [rule for agents, rules in groups if "*" in agents for rule in rules]
    found = [(len(value), allow) for allow, value in rules if matched(value, path)]
    return max(found)[1] if found else True


def matched(pattern: str, path: str) -> bool:
    expression = "".join(".*" if letter == "*" else re.escape(letter) for letter in pattern.removesuffix("$"))
    return re.match(expression + ("$" if pattern.endswith("$") else ""), path) is not None


def test_random_files_are_read_by_the_book() -> None:
    dice = random.Random(7)
    agents = ["*", "janus-forge", "Janus-Forge", "janus", "otherbot", "janus-forge-2"]
    paths = ["/", "/a", "/a/", "/a/b", "/a/b.jpg", "/b", "/*.jpg", "/*/b", "/a*", "/a/b.jpg$", "/c$"]
    asked = ["/", "/a", "/a/b", "/a/b.jpg", "/a/b.jpg?x", "/b", "/c", "/cc", "/x/b"]
    for _ in range(400):
        lines = []
        for _ in range(dice.randrange(1, 5)):
            lines += [f"User-agent: {dice.choice(agents)}" for _ in range(dice.randrange(1, 3))]
            lines += [
                f"{dice.choice(['Allow', 'Disallow', 'disallow'])}: {dice.choice([*paths, ''])}"
                for _ in range(dice.randrange(1, 4))
            ]
        text = "\n".join(lines)
        for path in asked:
            assert allowed(text, path) == by_the_book(text, path, "janus-forge"), (text, path)


@pytest.mark.parametrize(
    ("agent", "ours"),
    [
        ("janus-forge", True),
        ("JANUS-FORGE", True),
        ("janus-forge/1.0", True),
        ("janus-forge/1.0 (+http://example.org)", True),
        ("Mozilla/5.0 (compatible; janus-forge/1.0)", True),
        ("janus-*", True),
        ("*forge", True),
        ("janus", False),
        ("forge", False),
        ("janus-forger", False),
        ("my-janus-forge", False),
        ("janus_forge", False),
        ("", False),
        ("**", True),
    ],
)
def test_whose_group(agent: str, ours: bool) -> None:
    text = f"User-agent: {agent}\nDisallow: /\nUser-agent: nobody\nAllow: /\n"
    assert allowed(text, "/x") != ours


def test_a_hostile_name_takes_no_time() -> None:
    assert allowed(f"User-agent: {'*a' * 100_000}\nDisallow: /\n" * 2, "/x")


def test_the_vocabularies_do_not_lift_each_other() -> None:
    """Each of the four refuses alone, whatever the others allow, in any order of lines."""
    yes = ["Allow: /a", "AllowAITraining: /a", "Content-Signal: /a ai-train=yes", "Content-Usage: /a train-ai=y"]
    no = ["Disallow: /a", "DisallowAITraining: /a", "Content-Signal: /a ai-train=no", "Content-Usage: /a train-ai=n"]
    for refused in range(4):
        lines = [*yes[:refused], no[refused], *yes[refused + 1 :]]
        for order in itertools.permutations(lines):
            text = "User-agent: *\n" + "\n".join(order)
            assert not allowed(text, "/a")
            assert allowed(text, "/b")
    assert allowed("User-agent: *\n" + "\n".join(yes), "/a")


def test_percent_encoding() -> None:
    for rule in ("/caf\u00e9", "/caf%C3%A9", "/caf%c3%a9"):
        assert not allowed(f"User-agent: *\nDisallow: {rule}\n", "/caf%C3%A9/x")
        assert not allowed(f"User-agent: *\nContent-Usage: {rule} train-ai=n\n", "/caf%C3%A9/x")


@pytest.mark.parametrize(
    "body", [b"\xff\xfeU\0", b"\xfe\xff\0U", b"U\0s\0", b"\x1f\x8b\x08", b"User-agent: *\n\0"], ids=range(5)
)
def test_what_is_not_text(body: bytes) -> None:
    with pytest.raises(Unreadable):
        text_of(body)


def test_a_line_that_was_cut_is_left_out() -> None:
    assert text_of(b"a\nb", whole=True) == "a\nb"
    assert text_of(b"a\nb", whole=False) == "a\n"
    assert text_of(b"a\rb", whole=False) == "a\r"
    assert text_of(b"ab", whole=False) == ""
    assert MAX_BYTES == 500 * 1024


def test_bytes_that_are_not_utf_8_matter_only_in_our_lines() -> None:
    garbled = "User-agent: {}\nDisallow: /caf\udce9\n"
    assert allowed(garbled.format("otherbot"), "/x")
    assert allowed("# caf\udce9\nUser-agent: *\nCrawl-delay: \udce9\nAllow: /\n", "/x")
    for line in (
        "Disallow: /\udce9",
        "Allow: /\udce9",
        "Content-Signal: /\udce9 ai-train=yes",
        "disallowaitraining: /\udce9",
    ):
        with pytest.raises(Unreadable):
            allowed(f"User-agent: *\n{line}\n", "/x")

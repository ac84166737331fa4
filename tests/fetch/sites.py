"""Hosts of the hostile server by their robots.txt, tdmrep.json and ai.txt, and how they serve them."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

from schemas.reasons import Outcome
from tests.fetch.answers import (
    CHUNKED,
    MEGABYTE,
    Behaviour,
    Request,
    answer,
    busy_then_absent,
    chunk,
    first_then_ok,
    fixed,
    ok,
    raw,
    redirect,
    reset,
    slow,
)
from tests.pictures import PICTURES

DENY = b"User-agent: janus-forge\nDisallow: /private/\nAllow: /private/press/\n"
NONE = b"User-agent: *\nDisallow: /\n"
LIMIT = 500 * 1024
COMMENT = b"# nothing of interest\n"
BOM = b"\xef\xbb\xbf"
RESERVE = b'[{"location": "/", "tdm-reservation": 1}]'


def filler(size: int) -> bytes:
    """Comments of that many bytes."""
    return COMMENT * (size // len(COMMENT)) + b"#" * (size % len(COMMENT) - 1) + b"\n" * (size % len(COMMENT) > 0)


def drip(request: Request) -> bool:
    request.send(answer("200 OK", b"", length=len(DENY)))
    request.trickle(DENY, 0.2)
    return False


def endless(request: Request) -> bool:
    """Comments for ever; what is read of them allows everything."""
    request.send(CHUNKED)
    for _ in range(200):
        request.send(chunk(filler(MEGABYTE)))
    return False


ROBOTS: dict[str, tuple[Behaviour, Outcome]] = {
    # --- size (RFC 9309, section 2.5)
    "over-500-kib": (ok(DENY.replace(b"/private/\n", b"/\n") + filler(600 * 1024)), Outcome.OPTED_OUT),
    "rule-after-500-kib": (ok(b"User-agent: *\nAllow: /a\n" + filler(LIMIT) + b"Disallow: /\n"), Outcome.OK),
    "rule-cut-at-500-kib": (ok(NONE + filler(LIMIT - len(NONE) - 9) + b"Allow: /photo.gif\n"), Outcome.OPTED_OUT),
    "endless": (endless, Outcome.OK),
    # --- encoding
    "bom": (ok(BOM + NONE), Outcome.OPTED_OUT),
    "utf-16": (ok(NONE.decode().encode("utf-16")), Outcome.OPTED_OUT),
    "utf-16-be": (ok(NONE.decode().encode("utf-16-be")), Outcome.OPTED_OUT),
    "utf-32": (ok(NONE.decode().encode("utf-32")), Outcome.OPTED_OUT),
    "latin-1-comment": (ok(b"# caf\xe9\nUser-agent: *\nDisallow: /x\n"), Outcome.OK),
    "latin-1-rule": (ok(b"User-agent: *\nDisallow: /caf\xe9\n"), Outcome.OPTED_OUT),
    "brotli": (ok(b"\x0b\x02\x80nothing\x03", "Content-Encoding: br"), Outcome.OPTED_OUT),
    "unknown-encoding": (ok(b"User-agent: *\nAllow: /\n", "Content-Encoding: rot13"), Outcome.OPTED_OUT),
    "wrong-gzip-label": (ok(b"User-agent: *\nAllow: /\n", "Content-Encoding: gzip"), Outcome.OPTED_OUT),
    "gzip": (ok(gzip.compress(NONE), "Content-Encoding: gzip"), Outcome.OPTED_OUT),
    "gzip-allowing": (ok(gzip.compress(DENY), "Content-Encoding: gzip"), Outcome.OK),
    "gzip-members": (ok(gzip.compress(COMMENT) + gzip.compress(NONE), "Content-Encoding: gzip"), Outcome.OPTED_OUT),
    "gzip-cut": (ok(gzip.compress(filler(9999))[:-20], "Content-Encoding: gzip"), Outcome.OPTED_OUT),
    "gzip-without-label": (ok(gzip.compress(DENY)), Outcome.OPTED_OUT),
    "deflate": (ok(zlib.compress(NONE), "Content-Encoding: deflate"), Outcome.OPTED_OUT),
    "binary": (ok(PICTURES["photo.jpg"]), Outcome.OPTED_OUT),
    "gzip-bomb": (ok(gzip.compress(filler(50 * MEGABYTE), 1), "Content-Encoding: gzip"), Outcome.OK),
    # --- whose group
    "version": (ok(b"User-agent: janus-forge/1.0\nDisallow: /\n"), Outcome.OPTED_OUT),
    "upper-case": (ok(b"USER-AGENT: JANUS-FORGE\nDISALLOW: /\n"), Outcome.OPTED_OUT),
    "full-agent": (
        ok(b"User-agent: Mozilla/5.0 (compatible; Janus-Forge/2)\nDisallow: /\n"),
        Outcome.OPTED_OUT,
    ),
    "part-of-our-name": (ok(b"User-agent: janus\nDisallow: /\n"), Outcome.OK),
    "part-of-our-name-allowed": (ok(b"User-agent: janus\nAllow: /\nUser-agent: *\nDisallow: /\n"), Outcome.OPTED_OUT),
    "longer-name": (ok(b"User-agent: janus-forge-images\nDisallow: /\n"), Outcome.OK),
    "wildcard-name": (ok(b"User-agent: janus*\nDisallow: /\n"), Outcome.OPTED_OUT),
    "everybody": (ok(NONE), Outcome.OPTED_OUT),
    "ours-before-everybody": (ok(b"User-agent: janus-forge\nAllow: /\n" + NONE), Outcome.OK),
    "ours-twice": (
        ok(DENY + b"User-agent: x\nAllow: /\nUser-agent: janus-forge\nDisallow: /ph\n"),
        Outcome.OPTED_OUT,
    ),
    "shared-group": (ok(b"User-agent: a\nUser-agent: janus-forge\nUser-agent: b\nDisallow: /\n"), Outcome.OPTED_OUT),
    "sitemap-inside": (
        ok(b"User-agent: janus-forge\nSitemap: /x\nUser-agent: b\nDisallow: /\n"),
        Outcome.OPTED_OUT,
    ),
    "others-only": (ok(b"User-agent: GPTBot\nDisallow: /\n"), Outcome.OK),
    # --- lines
    "carriage-returns": (ok(NONE.replace(b"\n", b"\r")), Outcome.OPTED_OUT),
    "no-colons": (ok(b"User-agent *\nDisallow /\n"), Outcome.OPTED_OUT),
    "misspelt": (ok(b"Useragent: *\nDissallow: /\n"), Outcome.OPTED_OUT),
    "comments": (ok(b"User-agent: * # all\nDisallow: / # everything\n"), Outcome.OPTED_OUT),
    "longest-match": (ok(b"User-agent: *\nDisallow: /\nAllow: /photo.jpg$\n"), Outcome.OK),
    "many-stars": (ok(b"User-agent: *\nDisallow: /" + b"*a" * 200_000 + b"$\n"), Outcome.OK),
    "many-rules": (ok(b"User-agent: *\n" + b"Disallow: /*x\n" * 30_000), Outcome.OK),
    "many-groups": (ok(b"User-agent: x\n" * 30_000 + b"Disallow: /\n"), Outcome.OK),
    # --- status (RFC 9309, section 2.3.1)
    "web-page": (ok(b"<!doctype html><title>Not here</title>"), Outcome.OK),
    "empty": (ok(b""), Outcome.OK),
    "204": (fixed("204 No Content"), Outcome.OK),
    "401": (fixed("401 Unauthorized"), Outcome.OK),
    "403": (fixed("403 Forbidden"), Outcome.OK),
    "410": (fixed("410 Gone"), Outcome.OK),
    "304": (fixed("304 Not Modified"), Outcome.OK),
    "429": (fixed("429 Too Many"), Outcome.HTTP_RATE_LIMITED),
    "500": (fixed("500 Oops"), Outcome.HTTP_SERVER_ERROR),
    "redirect": (redirect("http://everybody.robots.test/robots.txt"), Outcome.OPTED_OUT),
    "redirect-to-none": (redirect("http://site.test/410"), Outcome.OK),
    "redirect-loop": (redirect("/robots.txt"), Outcome.OPTED_OUT),
    "redirect-private": (redirect("http://169.254.169.254/robots.txt"), Outcome.OPTED_OUT),
    "redirect-nonsense": (redirect("ftp://x/robots.txt"), Outcome.OPTED_OUT),
    "cut-body": (fixed("200 OK", NONE, length=1000), Outcome.TRUNCATED),
    "reset": (reset, Outcome.CONNECTION),
    "garbage": (raw(b"\0\1\2\r\n\r\n"), Outcome.CONNECTION),
    "cut-headers": (raw(b"HTTP/1.1 200 OK\r\nContent-Le"), Outcome.CONNECTION),
    "silent": (slow, Outcome.TIMEOUT),
    "drip": (drip, Outcome.TIMEOUT),
    "early-hints": (raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer("200 OK", NONE)), Outcome.OPTED_OUT),
    # --- what they say of training
    "signal": (ok(b"User-Agent: *\nContent-Signal: search=yes,ai-train=no\nAllow: /\n"), Outcome.OPTED_OUT),
    "signal-yes": (ok(b"User-Agent: *\nContent-Signal: ai-train=yes, search=no\nAllow: /\n"), Outcome.OK),
    "signal-others": (ok(b"User-Agent: GPTBot\nContent-Signal: ai-train=no\nAllow: /\n"), Outcome.OK),
    "signal-path": (ok(b"User-Agent: *\nContent-Signal: /art/ ai-train=no\n"), Outcome.OK),
    "signal-our-path": (ok(b"User-Agent: *\nContent-Signal: /photo ai-train=no\n"), Outcome.OPTED_OUT),
    "signal-before-groups": (ok(b"Content-Signal: ai-train=no\nUser-Agent: *\nAllow: /\n"), Outcome.OPTED_OUT),
    "signal-unclear": (ok(b"User-Agent: *\nContent-Signal: ai-train=conditional\n"), Outcome.OPTED_OUT),
    "usage": (ok(b"User-Agent: *\nAllow: /\nContent-Usage: train-ai=n\n"), Outcome.OPTED_OUT),
    "usage-yes": (ok(b"User-Agent: *\nContent-Usage: train-ai=y, search=n\n"), Outcome.OK),
    "usage-path": (ok(b"User-Agent: *\nContent-Usage: train-ai=n\nContent-Usage: /photo train-ai=y\n"), Outcome.OK),
    "usage-old": (ok(b"User-Agent: *\nContent-Usage: ai=n\n"), Outcome.OPTED_OUT),
    "usage-both": (ok(b"User-Agent: *\nContent-Usage: train-ai=n\nContent-Usage: train-ai=y\n"), Outcome.OPTED_OUT),
    "training": (ok(b"User-agent: *\nAllow: /\nDisallowAITraining: /\n"), Outcome.OPTED_OUT),
    "training-path": (ok(b"User-agent: *\nDisallowAITraining: /\nAllowAITraining: /photo\n"), Outcome.OK),
    "training-nothing": (ok(b"User-agent: *\nDisallowAITraining:\n"), Outcome.OK),
    "signal-over-usage": (
        ok(b"User-agent: *\nContent-Signal: ai-train=no\nContent-Usage: /photo train-ai=y\n"),
        Outcome.OPTED_OUT,
    ),
}
"""robots.txt of NAME.robots.test, and what becomes of its /photo.jpg."""

AI: dict[str, tuple[Behaviour, Outcome]] = {
    "jpg": (ok(b"# Spawning AI\nUser-Agent: *\nAllow: *.txt\nDisallow: *.jpg\nDisallow: *.png\n"), Outcome.OPTED_OUT),
    "png": (ok(b"User-Agent: *\nDisallow: *.png\nAllow: *.jpg\n"), Outcome.OK),
    "all": (ok(b"User-Agent: *\nDisallow: /\nDisallow: *\n"), Outcome.OPTED_OUT),
    "utf-16": (ok(NONE.decode().encode("utf-16")), Outcome.OPTED_OUT),
    "web-page": (ok(b"<html>not here"), Outcome.OK),
    "503": (fixed("503 Busy"), Outcome.HTTP_SERVER_ERROR),
}
"""ai.txt of NAME.ai.test, likewise."""

TDM: dict[str, tuple[Behaviour, Outcome]] = {
    "all": (ok(RESERVE), Outcome.OPTED_OUT),
    "bom": (ok(BOM + RESERVE), Outcome.OPTED_OUT),
    "utf-16": (ok(RESERVE.decode().encode("utf-16")), Outcome.OPTED_OUT),
    "utf-16-allowing": (ok(RESERVE.replace(b"1", b"0").decode().encode("utf-16")), Outcome.OK),
    "over-500-kib": (ok(RESERVE.replace(b"1", b"0") + b" " * LIMIT), Outcome.OPTED_OUT),
    "large": (ok(RESERVE + b" " * (LIMIT - 1000)), Outcome.OPTED_OUT),
    "words": (ok(b'[{"location": "/", "tdm-reservation": "1"}]'), Outcome.OPTED_OUT),
    "true": (ok(b'[{"location": "/", "tdm-reservation": true}]'), Outcome.OPTED_OUT),
    "object": (ok(RESERVE[1:-1]), Outcome.OPTED_OUT),
    "no-location": (ok(b'[{"tdm-reservation": 1}]'), Outcome.OPTED_OUT),
    "other-path": (ok(b'[{"location": "/art/*", "tdm-reservation": 1}]'), Outcome.OK),
    "first-rule": (
        ok(b'[{"location": "/photo*", "tdm-reservation": 0}, {"location": "/", "tdm-reservation": 1}]'),
        Outcome.OK,
    ),
    "no-json": (ok(b"[{'location': '/', 'tdm-reservation': 0}]"), Outcome.OPTED_OUT),
    "cut-json": (ok(RESERVE[:-5]), Outcome.OPTED_OUT),
    "deep": (ok(b"[" * 100_000), Outcome.OPTED_OUT),
    "long-number": (ok(b"[" + b"1" * 5000 + b"]"), Outcome.OPTED_OUT),
    "null": (ok(b"null"), Outcome.OK),
    "empty": (ok(b""), Outcome.OK),
    "web-page": (ok(b"\n<!DOCTYPE html><title>Not here</title>"), Outcome.OK),
    "wrong-gzip-label": (ok(b"[]", "Content-Encoding: gzip"), Outcome.OPTED_OUT),
    "500": (fixed("500 Oops"), Outcome.HTTP_SERVER_ERROR),
    "many-stars": (ok(json.dumps([{"location": "*a" * 50_000 + "$", "tdm-reservation": 1}]).encode()), Outcome.OK),
}
"""tdmrep.json of NAME.tdm.test, likewise."""

_FILES = {
    "robots.txt": ("robots", ROBOTS),
    "ai.txt": ("ai", AI),
    ".well-known/tdmrep.json": ("tdm", TDM),
}
POLICIES: dict[tuple[str, str], Callable[[Request], bool]] = {
    ("deny.test", "/robots.txt"): ok(DENY),
    ("broken-robots.test", "/robots.txt"): fixed("503 Busy"),
    ("limited-robots.test", "/robots.txt"): first_then_ok("429 Too Many", body=DENY),
    ("busy-robots.test", "/robots.txt"): busy_then_absent(),
    ("patient-robots.test", "/robots.txt"): busy_then_absent("Retry-After: 2"),
    ("closed-robots.test", "/robots.txt"): busy_then_absent("Retry-After: 3600"),
    ("tdm.test", "/.well-known/tdmrep.json"): ok(
        b'[{"location": "/art/free/*", "tdm-reservation": 0}, {"location": "/art/*", "tdm-reservation": 1}]'
    ),
    **{
        (f"{name}.{group}.test", f"/{file}"): behave
        for file, (group, sites) in _FILES.items()
        for name, (behave, _) in sites.items()
    },
}
"""What (host, path) answers; everything else is answered by path alone."""

EXPECTED: dict[str, Outcome] = {
    f"http://{name}.{group}.test/photo.jpg": outcome
    for group, sites in _FILES.values()
    for name, (_, outcome) in sites.items()
}
"""Address to outcome, with one attempt after the first."""

"""Opt-outs that a site states for itself: robots.txt and /.well-known/tdmrep.json, asked for once per origin.

- 2xx: read (the first 500 KiB, RFC 9309 section 2.5). 4xx but 429: there is none, everything is allowed.
- 5xx, 429, a time-out or no connection: nothing is known, so nothing is fetched (RFC 9309 section 2.3.1.4). The rows
  get that transient outcome, and when to try again: in FAILURE_S or, if the site said so, after its Retry-After. Until
  then the site is not asked again, so all rows of a dead host together cost one request per attempt.
- Crawl-delay is no part of RFC 9309 and is not used; `per_host` limits the load.
- tdmrep.json: the first rule whose `location` matches the path decides. An unreadable one reserves nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from protego import Protego

from pipelines.fetch.address import Target, parse, redirected
from pipelines.fetch.dates import retry_after
from pipelines.fetch.optout import product
from pipelines.fetch.result import FIRST_WAIT_S, FetchProblem, outcome_of_status
from pipelines.fetch.transport import Reply, Transport
from schemas.reasons import Outcome
from schemas.spec import Limits

MAX_BYTES = 500 * 1024
FAILURE_S = FIRST_WAIT_S
"""How long a failure is remembered: no longer than a row waits, or its attempts would end before the site is asked a
second time."""
ORIGINS = 10_000
"""Origins remembered; the ones not used longest are forgotten."""


@dataclass
class _Policy:
    """What one origin says."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    robots: Protego | None = None
    tdm: list[tuple[str, bool]] = field(default_factory=list)
    known: bool = False
    failure: FetchProblem | None = None
    failed_until: float = 0.0


class Policies:
    """The policies of all origins."""

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self._transport = transport
        self._limits = limits
        self._agent = product(limits.user_agent)
        self._origins: OrderedDict[str, _Policy] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, target: Target) -> None:
        """Raise FetchProblem OPTED_OUT if the site reserves `target`, or why its policy cannot be had.

        The latter with `retry_after`: the seconds until the site will be asked again.
        """
        policy = self._policy(target.origin)
        with policy.lock:  # the first one asks, the others wait for its answer
            if not policy.known:
                self._load(policy, target)
        if policy.robots is not None and not policy.robots.can_fetch(target.url, self._agent):
            raise FetchProblem(Outcome.OPTED_OUT)
        for pattern, reserved in policy.tdm:
            if matches(pattern, target.path):
                if reserved:
                    raise FetchProblem(Outcome.OPTED_OUT)
                break

    def _policy(self, origin: str) -> _Policy:
        with self._lock:
            policy = self._origins.setdefault(origin, _Policy())
            self._origins.move_to_end(origin)
            if len(self._origins) > ORIGINS:
                self._origins.popitem(last=False)
        return policy

    def _load(self, policy: _Policy, target: Target) -> None:
        if policy.failure is None or time.monotonic() >= policy.failed_until:
            self._ask(policy, target)
        if policy.failure is not None:
            left = max(0.0, policy.failed_until - time.monotonic())
            raise FetchProblem(policy.failure.outcome, status=policy.failure.status, retry_after=left)

    def _ask(self, policy: _Policy, target: Target) -> None:
        try:
            robots = self._text(parse(f"{target.origin}/robots.txt"))
            reservations = self._text(parse(f"{target.origin}/.well-known/tdmrep.json"))
        except FetchProblem as problem:
            policy.failure = problem
            policy.failed_until = time.monotonic() + max(FAILURE_S, problem.retry_after or 0.0)
            return
        policy.failure = None
        policy.robots = Protego.parse(robots) if robots else None
        policy.tdm = tdm_rules(reservations) if reservations else []
        policy.known = True

    def _text(self, target: Target) -> str | None:
        """The file, None if there is none."""
        try:
            reply = self._get(target)
        except FetchProblem as problem:
            if problem.outcome.transient:
                raise
            return None  # e.g. a redirect loop, or one that leads to a private address: there is no such file
        if reply.status == 429 or reply.status >= 500:
            raise FetchProblem(
                outcome_of_status(reply.status), status=reply.status, retry_after=retry_after(reply.headers)
            )
        return reply.body.decode("utf-8", "replace") if 200 <= reply.status < 300 else None

    def _get(self, target: Target) -> Reply:
        """GET a policy file, redirects and all, within one deadline."""
        end = time.monotonic() + self._limits.deadline_s
        for _ in range(self._limits.redirects + 1):
            seconds = end - time.monotonic()
            if seconds <= 0:
                raise FetchProblem(Outcome.TIMEOUT)
            reply = self._transport.get(target, seconds=seconds, max_bytes=MAX_BYTES)
            if reply.location is None:
                return reply
            target = redirected(target, reply.location)
        raise FetchProblem(Outcome.REDIRECT_LOOP)


def tdm_rules(text: str) -> list[tuple[str, bool]]:
    """(path pattern, whether reserved) of a tdmrep.json, in order."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [
        (entry["location"], entry.get("tdm-reservation") in (1, "1"))
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("location"), str)
    ]


def matches(pattern: str, path: str) -> bool:
    """Whether `path` starts with `pattern`, in which `*` is any text and a last `$` the end, as in robots.txt.

    By hand and not by a regular expression: the pattern is a stranger's, and many `*` make those take for ever.
    """
    first, *others = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    position = len(first)
    anchored = pattern.endswith("$")
    for number, part in enumerate(others, start=1):
        if anchored and number == len(others):
            return path.endswith(part) and len(path) - len(part) >= position
        found = path.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return position == len(path) or not anchored

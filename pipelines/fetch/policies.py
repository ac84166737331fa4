"""Opt-outs that a site states for itself: robots.txt, /.well-known/tdmrep.json and ai.txt, asked for once per origin.

Once in a whole build: what a worker has learned stands in the build's notes for the others (pipelines/fetch/notes.py),
for a day at most (RFC 9309, section 2.4).

- 2xx: read, robots.txt and ai.txt up to 500 KiB (RFC 9309, section 2.5). A web page in place of tdmrep.json is none.
- 2xx that cannot be read (another encoding, damaged, not JSON ...), redirects that lead nowhere or to a private
  address: everything is refused, and the row says why. Where something cannot be read, the answer is no.
- 4xx but 429: there is none, everything is allowed (RFC 9309, section 2.3.1.3).
- 5xx, 429, a time-out or no connection: nothing is known, so nothing is fetched (RFC 9309, section 2.3.1.4). The rows
  get that transient outcome, and when to try again: in FAILURE_S or, if the site said so, after its Retry-After. Until
  then the site is not asked again, so all rows of a dead host together cost one request per attempt.
- Crawl-delay is no part of RFC 9309 and is not used; `per_host` limits the load.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from pipelines.fetch.address import Target, parse, redirected
from pipelines.fetch.breaker import FAILURES, Breaker
from pipelines.fetch.dates import retry_after
from pipelines.fetch.notes import Notes
from pipelines.fetch.optout import product
from pipelines.fetch.patterns import matches
from pipelines.fetch.result import FIRST_WAIT_S, FetchProblem, outcome_of_status
from pipelines.fetch.robots import MAX_BYTES, Rules, Unreadable, is_page, text_of
from pipelines.fetch.tdm import tdm_rules
from pipelines.fetch.transport import Reply, Transport
from schemas.reasons import Outcome
from schemas.spec import Limits

ROBOTS, TDM, AI = "robots.txt", ".well-known/tdmrep.json", "ai.txt"
FAILURE_S = FIRST_WAIT_S
"""How long a failure is remembered: no longer than a row waits, or its attempts would end before the site is asked a
second time."""
LIFETIME_S = 86_400.0
"""How long a policy is believed."""
_NOTE, _FAILURE = "policy", "failure"
"""Kinds of notes."""
ORIGINS = 10_000
"""Origins remembered in memory; the ones not used longest are forgotten."""


class _Policy:
    """What one origin says, from its note: robots and ai (texts), tdm (rules), unreadable (why), each optional."""

    def __init__(self, note: dict[str, Any], token: str) -> None:
        self._refused: str | None = note.get("unreadable")
        self._rules: list[Rules] = []
        self._tdm: list[tuple[str, bool]] = [(pattern, reserved) for pattern, reserved in note.get("tdm", [])]
        for name, key in ((ROBOTS, "robots"), (AI, "ai")):
            if note.get(key):
                try:
                    self._rules.append(Rules(name, note[key], token))
                except Unreadable as error:
                    self._refused = f"{name} cannot be read: {error}"

    def refusal(self, target: Target) -> str | None:
        """What reserves `target`, None if nothing does."""
        if self._refused is not None:
            return self._refused
        for rules in self._rules:
            if (what := rules.refusal(target.url)) is not None:
                return what
        reserved = next((reserved for pattern, reserved in self._tdm if matches(pattern, target.path)), False)
        return "tdmrep.json" if reserved else None


@dataclass
class _Origin:
    lock: threading.Lock = field(default_factory=threading.Lock)
    policy: _Policy | None = None
    failure: FetchProblem | None = None
    failed_until: float = 0.0


class Policies:
    """The policies of all origins."""

    def __init__(self, transport: Transport, limits: Limits, notes: Notes, breaker: Breaker) -> None:
        self._transport = transport
        self._limits = limits
        self._notes = notes
        self._breaker = breaker
        self._token = product(limits.user_agent)
        self._origins: OrderedDict[str, _Origin] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, target: Target) -> None:
        """Raise FetchProblem OPTED_OUT if the site reserves `target`, or why its policy cannot be had.

        The latter with `retry_after`: the seconds until the site will be asked again.
        """
        origin = self._origin(target.origin)
        with origin.lock:  # the first one asks, the others wait for its answer
            policy = origin.policy or self._load(origin, target)
        if (what := policy.refusal(target)) is not None:
            raise FetchProblem(Outcome.OPTED_OUT, detail=what)

    def _origin(self, name: str) -> _Origin:
        with self._lock:
            origin = self._origins.setdefault(name, _Origin())
            self._origins.move_to_end(name)
            if len(self._origins) > ORIGINS:
                self._origins.popitem(last=False)
        return origin

    def _load(self, origin: _Origin, target: Target) -> _Policy:
        if origin.failure is None or time.monotonic() >= origin.failed_until:
            note = self._notes.read(_NOTE, target.origin)
            if note is None:
                with self._notes.turn(_NOTE, target.origin):
                    note = self._notes.read(_NOTE, target.origin)
                    if note is None and not self._has_failed(origin, target):
                        note = self._ask(origin, target)
            if note is not None:  # an empty one says that the site has none of the files
                origin.policy, origin.failure = _Policy(note, self._token), None
                return origin.policy
        assert origin.failure is not None
        left = max(0.0, origin.failed_until - time.monotonic())
        raise FetchProblem(origin.failure.outcome, status=origin.failure.status, retry_after=left)

    def _has_failed(self, origin: _Origin, target: Target) -> bool:
        """Whether another worker has asked a moment ago, in vain: those who waited for it do not ask one by one."""
        failed = self._notes.read(_FAILURE, target.origin)
        if failed is None:
            return False
        origin.failure = FetchProblem(Outcome(failed["outcome"]), status=failed["status"])
        origin.failed_until = time.monotonic() + max(0.0, failed["until"] - time.time())
        return True

    def _ask(self, origin: _Origin, target: Target) -> dict[str, Any] | None:
        """Ask the site. Returns its note, None after a failure."""
        start = time.monotonic()
        try:
            note = self._note(target.origin)
        except FetchProblem as problem:
            rest = self._breaker.failed(target.host, start) if problem.outcome in FAILURES else 0.0
            seconds = min(max(FAILURE_S, problem.retry_after or 0.0, rest), LIFETIME_S)
            origin.failure, origin.failed_until = problem, time.monotonic() + seconds
            says = {"outcome": problem.outcome.value, "status": problem.status, "until": time.time() + seconds}
            self._notes.write(_FAILURE, target.origin, says, seconds)
            return None
        self._breaker.answered(target.host)
        self._notes.write(_NOTE, target.origin, note, LIFETIME_S)
        return note

    def _note(self, origin: str) -> dict[str, Any]:
        """What the three files say, up to the first that cannot be read. Raises FetchProblem as `_get` does."""
        note: dict[str, Any] = {}
        for name, key in ((ROBOTS, "robots"), (TDM, "tdm"), (AI, "ai")):
            try:
                reply = self._get(parse(f"{origin}/{name}"), cut=name != TDM)
                if reply is None:
                    continue
                if name != TDM:
                    note[key] = text_of(reply.body, whole=reply.whole)
                elif not is_page(reply.body):
                    note[key] = tdm_rules(reply.body)
            except Unreadable as error:
                note["unreadable"] = f"{name} cannot be read: {error}"
                break
        return note

    def _get(self, target: Target, *, cut: bool) -> Reply | None:
        """GET a policy file, redirects and all, within one deadline. None if there is none.

        Raises Unreadable, or FetchProblem: a transient outcome, or FORBIDDEN_ADDRESS for the site itself.
        """
        end = time.monotonic() + self._limits.deadline_s
        origin = target.origin
        try:
            for _ in range(self._limits.redirects + 1):
                seconds = end - time.monotonic()
                if seconds <= 0:
                    raise FetchProblem(Outcome.TIMEOUT)
                reply = self._transport.get(target, seconds=seconds, max_bytes=MAX_BYTES, cut=cut)
                if reply.location is None:
                    break
                target = redirected(target, reply.location)
            else:
                raise FetchProblem(Outcome.REDIRECT_LOOP)
        except FetchProblem as problem:
            ours = problem.outcome == Outcome.FORBIDDEN_ADDRESS and target.origin == origin
            if problem.outcome.transient or ours:  # of a site that may not be asked for anything
                raise
            raise Unreadable(_WHY.get(problem.outcome, problem.outcome.value)) from None
        if reply.status == 429 or reply.status >= 500:
            outcome = outcome_of_status(reply.status)
            raise FetchProblem(outcome, status=reply.status, retry_after=retry_after(reply.headers))
        return reply if 200 <= reply.status < 300 else None


_WHY = {
    Outcome.NOT_AN_IMAGE: "sent in an encoding that was not asked for",
    Outcome.BAD_IMAGE: "damaged compression",
    Outcome.TOO_LARGE: f"over {MAX_BYTES} bytes",
    Outcome.REDIRECT_LOOP: "redirects without end",
    Outcome.FORBIDDEN_ADDRESS: "redirects to an address that is not public",
    Outcome.BAD_URL: "redirects to what is no address",
}
"""What the outcomes of images mean for these files."""

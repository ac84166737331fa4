"""What must hold in every process of img2dataset, done on import if the environment marks it as one.

- It ends when the build ends (its own parent may be gone before this is read), and cannot take more than its share of
  memory.
- Every connection, also one after a redirect, goes to a public address or to an override (as pipelines/fetch/address.py
  has it): names are resolved here, and what is checked is what is connected to.
- Opt-outs in headers are read as the built-in engine reads them, and a redirect is followed only where the policy of
  the site that it leads to allows.
- Answers are read as there too: whole headers, interim answers skipped, redirects counted, bodies unpacked and up to
  the byte cap. A host that does not answer in time is given up (pipelines/fetch/breaker.py).

img2dataset asks by `urllib.request.urlopen`, so this is where all of it goes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import socket
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipelines.fetch.address import Resolver, is_public, parse
from pipelines.fetch.breaker import Breaker
from pipelines.fetch.notes import Notes
from pipelines.fetch.optout import reserved
from pipelines.fetch.policies import Policies
from pipelines.fetch.result import FetchProblem
from pipelines.fetch.transport import REDIRECTS, Response, Transport
from pipelines.fetch.unpack import unpacker
from pipelines.lifeline import Lifeline
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations

RULES = "JANUS_FORGE_FETCH"
"""Environment variable that marks the processes to guard: JSON with limits, operations, notes, memory (bytes) and build
(process)."""
_REFUSED = re.compile(r"refused by us: ([a-z_]+) (\d+|-) (.*?) ?>?$", re.DOTALL)


def refusal(problem: FetchProblem) -> str:
    """How what is refused here reads in img2dataset's error messages."""
    return f"refused by us: {problem.outcome.value} {problem.status or '-'} {problem.detail or ''} "


def read_refusal(message: str) -> FetchProblem | None:
    """The problem that `refusal` wrote into an error message, None if there is none in it."""
    found = _REFUSED.search(message)
    if found is None:
        return None
    outcome, status, detail = found.groups()
    return FetchProblem(Outcome(outcome), status=int(status) if status != "-" else None, detail=detail or None)


def guard_connections(overrides: dict[str, str]) -> None:
    """Let this process connect to public addresses and overrides only."""
    places = {name.lower(): place for name, place in overrides.items()}
    resolve = socket.getaddrinfo

    def checked(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        place = places.get(f"{host}:{port}".lower())
        if place is not None:
            address, _, number = place.rpartition(":")
            return resolve(address.strip("[]"), int(number), *args, **kwargs)
        found = resolve(host, port, *args, **kwargs)
        if not all(is_public(str(entry[4][0]).split("%")[0]) for entry in found):
            raise OSError(refusal(FetchProblem(Outcome.FORBIDDEN_ADDRESS)))
        return found

    socket.getaddrinfo = checked


def guard_requests(limits: Limits, operations: Operations, notes: Path | None, look_up: Callable[..., Any]) -> None:
    """Have urllib keep the rules on opt-outs, redirects, silent hosts and bodies. `look_up` is the system's own
    getaddrinfo, for what is asked for here, which passes the check of pipelines/fetch/address.py."""
    shared = Notes(notes)
    breaker = Breaker(operations.host_failures, shared)
    transport = Transport(Resolver(operations.resolve, look_up), limits.user_agent, keep=operations.connections)
    policies = Policies(transport, limits, shared, breaker)
    errors, redirects = urllib.request.HTTPErrorProcessor, urllib.request.HTTPRedirectHandler
    answer, follow, urlopen = errors.http_response, redirects.redirect_request, urllib.request.urlopen

    def checked_answer(self: Any, request: Any, response: Any) -> Any:
        if limits.respect_opt_out and (200 <= response.status < 300 or response.status in REDIRECTS):
            what = reserved(response.headers, limits.user_agent)
            if what is not None:
                with _refusing():
                    raise FetchProblem(Outcome.OPTED_OUT, status=response.status, detail=what)
        return answer(self, request, response)

    def checked_redirect(self: Any, request: Any, file: Any, code: int, *rest: Any) -> Any:
        new = follow(self, request, file, code, *rest)
        if new is not None:
            with _refusing():
                target = parse(new.full_url)
                breaker.check(target.host)
                if limits.respect_opt_out:
                    policies.check(target)
        return new

    def watched(request: urllib.request.Request, *args: Any, **kwargs: Any) -> Any:
        request.add_header("User-agent", limits.user_agent)
        host, start = parse(request.full_url).host, time.monotonic()
        with _refusing():
            breaker.check(host)
            try:
                response = urlopen(request, *args, **kwargs)
            except (urllib.error.URLError, TimeoutError) as error:
                if isinstance(getattr(error, "reason", error), TimeoutError):
                    breaker.failed(host, start)
                raise
            except http.client.HTTPException:  # the text of some is what the server has sent
                raise FetchProblem(Outcome.CONNECTION) from None
            except ValueError:  # of a redirect to what is no address
                raise FetchProblem(Outcome.BAD_URL) from None
        breaker.answered(host)
        response.read = _capped(response, limits.max_bytes)
        return response

    errors.http_response = errors.https_response = checked_answer  # type: ignore[method-assign]
    redirects.redirect_request = checked_redirect  # type: ignore[assignment, method-assign]
    redirects.max_repeats, redirects.max_redirections = 1, limits.redirects
    urllib.request.urlopen = watched  # type: ignore[assignment]
    http.client.HTTPConnection.response_class = Response


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except FetchProblem as problem:
        raise urllib.error.URLError(refusal(problem)) from None


def _capped(response: http.client.HTTPResponse, max_bytes: int) -> Callable[[], bytes]:
    """`read` of a body that is unpacked, and given up as soon as it is over the cap."""
    read, status = response.read, response.status

    def capped() -> bytes:
        with _refusing():
            unpack = unpacker(response.headers, status)
            if response.length is not None and response.length > max_bytes:
                raise FetchProblem(Outcome.TOO_LARGE, status=status)
            body = read(max_bytes + 1)
            if len(body) <= max_bytes and response.length:
                raise FetchProblem(Outcome.TRUNCATED, status=status)
            try:
                if unpack is not None:
                    body = unpack.feed(body, max_bytes + 1)
                    if len(body) <= max_bytes:
                        unpack.end()
            except zlib.error:
                raise FetchProblem(Outcome.BAD_IMAGE, status=status) from None
            if len(body) > max_bytes:
                raise FetchProblem(Outcome.TOO_LARGE, status=status)
            return body

    return capped


if RULES in os.environ:
    _rules = json.loads(os.environ[RULES])
    Lifeline(_rules["build"], socket.gethostname()).hold()
    resource.setrlimit(resource.RLIMIT_DATA, (_rules["memory"], _rules["memory"]))
    _operations = Operations.model_validate(_rules["operations"])
    _look_up = socket.getaddrinfo
    guard_connections(_operations.resolve)
    _notes = Path(_rules["notes"]) if _rules["notes"] else None
    guard_requests(Limits.model_validate(_rules["limits"]), _operations, _notes, _look_up)

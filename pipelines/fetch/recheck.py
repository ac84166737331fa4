"""Asking sites again whether they reserve what was fetched from them before: their files, not the pictures."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.fetch.address import Resolver, parse
from pipelines.fetch.breaker import Breaker
from pipelines.fetch.notes import Notes
from pipelines.fetch.policies import Policies
from pipelines.fetch.result import FetchProblem
from pipelines.fetch.transport import Transport
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations


def recheck(
    addresses: Iterable[str], limits: Limits, operations: Operations, notes: Path | None
) -> tuple[set[str], set[str]]:
    """Which addresses their sites reserve today, and of which that cannot be told because the site does not answer.

    Each site is asked once for its robots.txt, tdmrep.json and ai.txt; `notes` is a folder that the workers of a build
    share. Addresses that are none any more, or not public, are reserved: they would not be asked today.
    """
    resolver = Resolver(operations.resolve)
    transport = Transport(resolver, limits.user_agent, keep=operations.connections)
    breaker = Breaker(operations.host_failures, Notes(notes))
    policies = Policies(transport, limits, Notes(notes), breaker)

    def ask(address: str) -> Outcome:
        try:
            policies.check(parse(address))
        except FetchProblem as problem:
            return problem.outcome
        return Outcome.OK

    wanted = sorted(set(addresses))
    try:
        with ThreadPoolExecutor(operations.connections, thread_name_prefix="recheck") as threads:
            answers = dict(zip(wanted, threads.map(ask, wanted), strict=True))
    finally:
        transport.close()
        resolver.close()
    unknown = {address for address, outcome in answers.items() if outcome.transient}
    return {address for address, outcome in answers.items() if outcome != Outcome.OK} - unknown, unknown

"""Trying again what may pass: a busy or silent server, a lost network (design D15)."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from storage.store import StorageError, StorageUnreachable

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 20.0
SAY_AFTER_S = 5.0
"""Waiting that lasts longer is told, and then again whenever it has lasted twice as long."""
GIVE_UP_S = 900.0
"""Time without a good answer after which a build gives up: by then somebody should have a look."""

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""HTTP status codes that the same request may not meet again. 409: two conditional puts met; 412 is an answer."""
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CREDENTIALS = re.compile(r"Error performing \w+ http://(169\.254\.|metadata\.)")
"""Where there are no credentials, the machine is asked for some at these addresses, which only clouds answer."""
_CAUSE = re.compile(r" - (HTTP error: )?([^\n]+)")


def status_of(error: BaseException) -> int | None:
    """HTTP status that the server answered with, or None if it did not answer."""
    found = _STATUS.search(str(error))
    return int(found.group(1)) if found else None


def explain(url: str, error: BaseException) -> str | None:
    """One line for an error that retrying cannot fix, or None if trying again may help."""
    text = str(error)
    found = _CODE.search(text)
    code = found.group(1) if found else ""
    status = status_of(error)
    if _CREDENTIALS.search(text):
        return (
            f"{url}: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (s3), "
            "GOOGLE_APPLICATION_CREDENTIALS (gs) or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (az)"
        )
    if code in ("NoSuchBucket", "ContainerNotFound"):
        return f"{url}: there is no such bucket; create it, or correct the address"
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthenticationFailed"):
        return f"{url}: the credentials are refused ({code}); renew or correct them"
    if status in (401, 403):
        return f"{url}: access denied ({code or status}); the credentials must be allowed to list, read, put and delete"
    if "redirect without LOCATION" in text or code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
        return f"{url}: the bucket is in another region; set AWS_REGION to it"
    if status is not None and status not in PASSING:
        return f"{url}: the storage answered {status} {code}".rstrip()
    return None


def retrying(url: str, what: str, attempt: Callable[[], T], give_up_s: float | None = GIVE_UP_S) -> T:
    """Call `attempt` until it succeeds, pausing longer each time (with jitter, so that workers do not march in step).

    FileNotFoundError and the outcomes of conditional puts are answers and pass through.

    Args:
        url: of the store, for messages.
        what: is being done, for messages: "read LATEST".
        attempt: one try.
        give_up_s: None waits for ever, and says so.

    Raises:
        StorageError: an error that retrying cannot fix.
        StorageUnreachable: no good answer for `give_up_s` seconds.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError, NotModifiedError, PreconditionError

    start = time.monotonic()
    pause, say_at = FIRST_PAUSE_S, SAY_AFTER_S
    while True:
        try:
            result = attempt()
        except (AlreadyExistsError, PreconditionError, NotModifiedError) as error:
            if status_of(error) != 409:
                raise
            problem: Exception = error
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                raise StorageError(explain(url, error)) from None
            raise
        except (BaseError, ConnectionError, TimeoutError) as error:
            if line := explain(url, error):
                raise StorageError(line) from None
            problem = error
        else:
            if say_at > SAY_AFTER_S:
                logger.warning("%s answers again after %.0f s", url, time.monotonic() - start)
            return result
        waited = time.monotonic() - start
        if give_up_s is not None and waited + pause > give_up_s:
            raise StorageUnreachable(
                f"{url}: could not {what} for {waited:.0f} s ({_first_line(problem)}); "
                "check the network and AWS_ENDPOINT_URL, then start again: what is done stays done"
            ) from None
        if waited >= say_at:
            logger.warning("%s: could not %s for %.0f s (%s); waiting", url, what, waited, _first_line(problem))
            say_at = 2 * waited
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _first_line(error: BaseException) -> str:
    status = status_of(error)
    if status is not None:
        return f"it answered {status}"
    found = _CAUSE.search(str(error))
    return found.group(2) if found else next(iter(str(error).splitlines()), "no answer")

"""An endpoint that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, or a service.

It batches on its side, so for many pictures this is the fastest way. The endpoint is the user's own choice: it may lie
at a private address, and it alone is sent the key. Redirects are not followed.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import io
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from typing import Any

import pydantic

from pipelines.captioners import Answer, Asked, Sampling
from pipelines.captioners import Options as Base
from pipelines.signals import Device

VERSION = 1
OPERATIONAL = ("url", "key_variable", "concurrency", "requests", "timeout_s", "attempts")
LONGEST_WAIT_S = 120.0
"""Between two attempts, whatever Retry-After asks for."""
_MAX_REPLY = 1 << 20
_JPEG_QUALITY = 90


class Options(Base):
    """Which endpoint, and how it is asked."""

    model: str
    """Name of the model there. It stands for the model in keys: what an endpoint runs cannot be looked at."""
    url: str = pydantic.Field(pattern=r"^https?://[^/].*$")
    """Base address, as in http://127.0.0.1:8000/v1."""
    key_variable: str = ""
    """Environment variable that holds the key, if the endpoint wants one."""
    concurrency: int = pydantic.Field(default=16, ge=1, le=1024)
    """Requests at a time, per worker."""
    requests: int | None = pydantic.Field(default=None, ge=1)
    """Budget: requests that a worker makes in one build, attempts that failed among them. Then the build stops, keeps
    all answers, and goes on from there when it is started again."""
    timeout_s: float = pydantic.Field(default=120.0, gt=0)
    """Time for one request, from connect to last byte."""
    attempts: int = pydantic.Field(default=5, ge=1)
    """For one picture, where the endpoint is busy, down or answers nonsense."""


def fingerprint(options: Options) -> dict[str, str]:
    """Nothing: the options say it all. Raises ValueError if the key is wanted and not there."""
    if options.key_variable and not os.environ.get(options.key_variable):
        raise ValueError(f"key_variable: the environment variable {options.key_variable} is not set")
    return {}


class _Again(Exception):
    """An attempt that failed in a way that may pass."""

    def __init__(self, wait_s: float | None = None) -> None:
        super().__init__()
        self.wait_s = wait_s


class Captioner:
    """An endpoint."""

    def __init__(self, options: Options, sampling: Sampling, device: Device) -> None:
        self._options, self._sampling = options, sampling
        self._address = f"{options.url.rstrip('/')}/chat/completions"
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._left = options.requests
        self._lock = threading.Lock()
        self.at_once = 4 * options.concurrency

    def describe(self, asked: Sequence[Asked], done: Callable[[int, Answer], None]) -> None:
        """Ask for all at once, `concurrency` at a time."""
        with ThreadPoolExecutor(self._options.concurrency, thread_name_prefix="caption") as pool:
            tasks = [pool.submit(self._one, index, one, done) for index, one in enumerate(asked)]
            try:
                for task in tasks:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()

    def _one(self, index: int, asked: Asked, done: Callable[[int, Answer], None]) -> None:
        done(index, self._answer(asked))

    def _answer(self, asked: Asked) -> Answer:
        body = json.dumps(self._body(asked)).encode()
        for attempt in range(self._options.attempts):
            try:
                return _read(self._post(body))
            except _Again as again:
                if attempt + 1 < self._options.attempts:
                    wait = 2.0**attempt if again.wait_s is None else again.wait_s
                    time.sleep(min(wait, LONGEST_WAIT_S))
        return Answer(None)

    def _body(self, asked: Asked) -> dict[str, Any]:
        file = io.BytesIO()
        asked.picture.save(file, "JPEG", quality=_JPEG_QUALITY)
        picture = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": asked.prompt}]
        body = {
            "model": self._options.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._sampling.max_tokens,
            "temperature": self._sampling.temperature,
        }
        if self._sampling.temperature:
            body |= {"seed": asked.seed, "top_p": self._sampling.top_p}
        return body

    def _post(self, body: bytes) -> bytes | None:
        """The reply to one request, None where the endpoint will not have this one: the next may be to its liking.

        Raises _Again, or ValueError where no request can succeed.
        """
        with self._lock:
            if self._left == 0:
                raise ValueError(
                    f"recaption: the budget of {self._options.requests} requests (recaption.options.requests) is used "
                    "up; the answers are kept, build again to go on"
                )
            self._left = None if self._left is None else self._left - 1
        headers = {"Content-Type": "application/json"}
        if self._options.key_variable:
            headers["Authorization"] = f"Bearer {os.environ.get(self._options.key_variable, '')}"
        end = time.monotonic() + self._options.timeout_s
        try:
            request = urllib.request.Request(self._address, body, headers)
            with self._opener.open(request, timeout=self._options.timeout_s) as reply:
                parts, size = [], 0
                while part := reply.read1(1 << 16):
                    size += len(part)
                    if size > _MAX_REPLY or time.monotonic() > end:
                        raise _Again
                    parts.append(part)
                return b"".join(parts)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (408, 425, 429) or error.code >= 500:
                raise _Again(_retry_after(error.headers)) from None
            if error.code in (400, 413, 415, 422):
                return None
            raise ValueError(f"{self._address}: HTTP {error.code}: is recaption.options right?") from None
        except (OSError, http.client.HTTPException):
            raise _Again from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: object) -> None:
        return None


def _retry_after(headers: Message) -> float | None:
    """Seconds that the endpoint asks to wait; it may be a number or a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal() and len(value) < 9:
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _read(reply: bytes | None) -> Answer:
    """The answer in a reply. Raises _Again if it is no JSON, as where a proxy answers for an endpoint that is down."""
    if reply is None:
        return Answer(None)
    try:
        content = json.loads(reply)
    except (ValueError, RecursionError):
        raise _Again from None
    try:
        choice = content["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return Answer(None)
    if text is not None and not isinstance(text, str):
        return Answer(None)
    return Answer(text or "", truncated=choice.get("finish_reason") == "length")

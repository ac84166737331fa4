"""A model that judges answers, or pictures, behind any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

KEY = "JANUS_JUDGE_KEY"
"""Environment variable that holds the endpoint's key, if it wants one."""
ATTEMPTS = 4
TIMEOUT_S = 120
_MAX_REPLY = 2**20


@dataclass(frozen=True)
class Judge:
    """One endpoint and model. Replies are asked for at temperature 0."""

    url: str
    """Base address: "http://127.0.0.1:8000/v1"."""
    model: str

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"judge {self.url!r}: expected an http or https address that ends in /v1")

    def ask(self, prompt: str, picture: Image.Image | None = None) -> str:
        """The reply to `prompt`, asked about a picture where there is one.

        Raises ValueError with one line if there is none after a few attempts.
        """
        content: Any = prompt
        if picture is not None:
            content = [{"type": "image_url", "image_url": {"url": _uri(picture)}}, {"type": "text", "text": prompt}]
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": content}]}
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        for attempt in range(ATTEMPTS):
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
                    said = json.loads(reply.read(_MAX_REPLY))
                return str(said["choices"][0]["message"]["content"])
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code}"
                if error.code not in (408, 429) and error.code < 500:
                    break
            except (OSError, json.JSONDecodeError) as error:
                problem = str(error) or type(error).__name__
            except (KeyError, IndexError, TypeError):
                problem = "no choices[0].message.content in the reply"
                break
            if attempt + 1 < ATTEMPTS:
                time.sleep(2**attempt)
        raise ValueError(f"judge {address}: {problem}")


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

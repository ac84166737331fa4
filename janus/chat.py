"""Talk to a trained Janus about pictures.

python -m janus.chat                                                       # a conversation
python -m janus.chat janus-1.3b --image fish.jpg --ask "What is it?"        # one answer on stdout
python -m janus.chat janus-1.3b --image a.png b.png --ask "Which is larger?" "Why?"
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from janus.cli import console, escape, parse, run
from janus.workspace import needed_model
from schemas.printable import printable_lines

if TYPE_CHECKING:
    from PIL import Image

    from janus.model.network import Janus
    from janus.model.processor import Processor
    from schemas.sample import Message

_HELP = "/image FILE adds a picture to your next message, /reset starts over, /quit ends"


@dataclass(frozen=True)
class Chat:
    """Talk to a trained Janus about pictures."""

    model: Annotated[Path | None, tyro.conf.Positional] = None
    """Model folder or hub id. By the workspace: the model of the last stage that is done."""
    image: tuple[Path, ...] = ()
    """Pictures for the first question."""
    ask: tuple[str, ...] = ()
    """Questions, asked one after the other in one conversation; without any, you are asked for them."""
    system: str | None = None
    """What the model is told before the conversation."""
    max_new_tokens: int = 512
    """Longest answer."""
    temperature: float = 0.0
    """0 always takes the likeliest word."""
    top_p: float | None = None
    """Draw from the likeliest words that together have this probability."""
    seed: int = 0
    """Of answers at a temperature above 0."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass
class Conversation:
    """What has been said and shown so far."""

    system: str | None
    messages: list[Message] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    pending: list[Image.Image] = field(default_factory=list)
    """Pictures that go with the next question."""

    def reset(self) -> None:
        """Forget everything but the system prompt."""
        self.messages, self.images, self.pending = [], [], []

    def question(self, text: str) -> list[Message]:
        """The conversation with one more question, pending pictures before its text unless it says where they go.

        Raises:
            ValueError: it has a number of `<image>` marks, but not as many as there are new pictures.
        """
        from schemas.sample import IMAGE_MARK, Message

        marks = text.count(IMAGE_MARK)
        if marks == 0:
            text = f"{IMAGE_MARK}\n" * len(self.pending) + text
        elif marks != len(self.pending):
            raise ValueError(f"{marks} {IMAGE_MARK} marks but {len(self.pending)} new pictures")
        start = [Message(role="system", text=self.system)] if self.system else []
        return [*start, *self.messages, Message(role="user", text=text)]

    def answered(self, asked: list[Message], text: str) -> None:
        """Remember a question and its answer."""
        from schemas.sample import Message

        said = asked[1:] if self.system else asked
        self.messages = [*said, Message(role="assistant", text=text or "...")]
        self.images, self.pending = [*self.images, *self.pending], []


def main() -> None:
    """The command."""
    command = parse(Chat, prog="python -m janus.chat")
    folder = command.model or needed_model("no model named")[0]
    from janus.model.checkpoints.model_folder import load_janus
    from janus.model.device import placement

    conversation = Conversation(command.system, pending=[read_picture(path) for path in command.image])
    device, dtype = placement(command.device)
    model, processor = load_janus(folder, dtype=dtype, device=device)
    if command.ask:
        for question in command.ask:
            reply(command, model, processor, conversation, question)
        return
    console().print(f"[dim]{_HELP}[/]")
    for line in _typed_lines():
        try:
            converse(command, model, processor, conversation, line)
        except (ValueError, FileNotFoundError) as error:  # a slip of the pen does not end the conversation
            console().print(f"[bold red]error:[/] {escape(str(error))}")


def converse(command: Chat, model: Janus, processor: Processor, conversation: Conversation, line: str) -> None:
    """Act on one line of an interactive conversation."""
    if line == "/reset":
        conversation.reset()
    elif line.startswith("/image"):
        conversation.pending.append(read_picture(Path(line.removeprefix("/image").strip())))
        console().print(f"[dim]{len(conversation.pending)} new picture(s) for your next message[/]")
    elif line.startswith("/"):
        console().print(f"[dim]{_HELP}[/]")
    else:
        reply(command, model, processor, conversation, line)


def reply(command: Chat, model: Janus, processor: Processor, conversation: Conversation, question: str) -> str:
    """Print the answer to a question as it is written, and remember both."""
    from janus.model.inference.answering import stream_answer

    asked = conversation.question(question)
    pieces = []
    for piece in stream_answer(
        model,
        processor,
        asked,
        [*conversation.images, *conversation.pending],
        max_new_tokens=command.max_new_tokens,
        temperature=command.temperature,
        top_p=command.top_p,
        seed=command.seed,
    ):
        print(printable_lines(piece), end="", flush=True)
        pieces.append(piece)
    print()
    text = "".join(pieces).strip()
    conversation.answered(asked, text)
    return text


def read_picture(path: Path) -> Image.Image:
    """Any picture as upright RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a readable picture.
    """
    from janus.images import ImageProblem, load_rgb

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such picture")
    try:
        return load_rgb(path.read_bytes())
    except ImageProblem as problem:
        raise ValueError(f"{path}: {problem}") from None


def _typed_lines() -> Iterator[str]:
    """What the user types, until /quit or the end of input."""
    while True:
        if sys.stdin.isatty():
            console().print("[bold]you>[/] ", end="")
        line = sys.stdin.readline()
        if not line or line.strip() in ("/quit", "/exit"):
            return
        if line.strip():
            yield line.strip()


if __name__ == "__main__":
    run(main)

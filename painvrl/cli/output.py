"""Standard output and error: what they cannot take is said in one line, what they cannot show is escaped.

Whatever is printed, by painvrl or by a library, passes :class:`_Stream`: secrets end there, and characters
that steer a terminal.
"""

from __future__ import annotations

import codecs
import io
import re
import shutil
import sys
import textwrap
from typing import IO, TYPE_CHECKING, cast

from painvrl.core.errors import PlaceError
from painvrl.core.shown import GUARDS, redacted, visible_lines

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_FORMS = dict(zip("─━│┌┐└┘├┤┬┴┼·●◆◇◎★→", "--|+++++++++.o#%@*>", strict=True)) | {"±": "+-", "…": "..."}
"""What draws tables and pictures, in ASCII."""


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    r"""What an encoding lacks: drawings in a plain form, letters as ``\xe9`` or ``\u65e5``."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    plain = [_FORMS.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking]
    return "".join(plain), error.end


def _plain_ascii(name: str) -> codecs.CodecInfo | None:
    """ASCII by another name: Typer takes a stream that says ASCII for a mistake, and writes UTF-8 to it."""
    if name != "plain_ascii":
        return None
    ascii_codec = codecs.lookup("ascii")
    return codecs.CodecInfo(
        *ascii_codec, ascii_codec.incrementalencoder, ascii_codec.incrementaldecoder, name
    )


codecs.register_error("in_ascii", _in_ascii)
codecs.register(_plain_ascii)


_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


class ReaderLeft(PlaceError):
    """No one reads the output any more, as after ``| head``.

    Libraries have ideas of their own what to do about a BrokenPipeError.
    """


class _Device(io.FileIO):
    """What a standard stream is written to. What it refuses is said once; what comes after is dropped."""

    def __init__(self, descriptor: int, called: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._called = called
        self._refused = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or drop.

        Raises:
            PlaceError: the device is full or fails.
            ReaderLeft: no one reads it any more.
        """
        if self._refused:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:
            self._refused = True
            raise ReaderLeft("no one reads it any more", file=self._called) from None
        except OSError as error:
            self._refused = True
            raise PlaceError.of(error, "cannot be written", file=self._called) from None


class _Stream(io.TextIOWrapper):
    """A standard stream: shows no secrets, and no characters that steer a terminal."""

    def write(self, text: str, /) -> int:
        super().write(visible_lines(redacted(text)))
        return len(text)


class _AsItIs:
    """The same stream for who has seen to what is shown, and steers the terminal."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return io.TextIOWrapper.write(self._stream, text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def as_it_is(stream: IO[str]) -> IO[str]:
    """``stream`` without what :func:`guard_output` does to texts: for Rich, for colours and for JSON."""
    return cast("IO[str]", _AsItIs(stream)) if isinstance(stream, _Stream) else stream


def with_colours(text: str) -> str:
    """``text`` in which nothing steers a terminal but the codes of colours."""
    return "".join(part if at % 2 else visible_lines(part) for at, part in enumerate(_COLOUR.split(text)))


def guard_output() -> None:
    """Take the place of the standard streams that Python has opened; others are somebody's own.

    Worker processes do the same.
    """
    if guard_output not in GUARDS:
        GUARDS.append(guard_output)
    for name, called in (("stdout", "standard output"), ("stderr", "standard error")):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            device = io.BufferedWriter(_Device(stream.fileno(), called))
            encoding = "plain_ascii" if codecs.lookup(stream.encoding).name == "ascii" else stream.encoding
            buffered = stream.line_buffering
            setattr(sys, name, _Stream(device, encoding, "in_ascii", line_buffering=buffered))


WIDE = 100_000  # columns of a file or a pipe, where there is no screen to fit into


def columns(*, err: bool = False) -> int:
    """How wide the terminal is that standard output or error goes to."""
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else WIDE


def whole_words(text: str, *, err: bool = False) -> str:
    """A line, broken between words where a terminal would break it anywhere; a URL is a word."""
    width = columns(err=err)
    if len(text) <= width:
        return text
    return textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def takes_unicode() -> bool:
    """Whether standard output can show all characters."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return encoding.lower().startswith("utf")

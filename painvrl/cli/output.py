"""Standard output and error: what they cannot take is said in one line, what they cannot show is escaped."""

from __future__ import annotations

import codecs
import io
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from painvrl.core.errors import PlaceError

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


def guard_output() -> None:
    """Take the place of the standard streams that Python has opened; others are somebody's own."""
    for name, called in (("stdout", "standard output"), ("stderr", "standard error")):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            device = io.BufferedWriter(_Device(stream.fileno(), called))
            encoding = "plain_ascii" if codecs.lookup(stream.encoding).name == "ascii" else stream.encoding
            buffered = stream.line_buffering
            setattr(sys, name, io.TextIOWrapper(device, encoding, "in_ascii", line_buffering=buffered))


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

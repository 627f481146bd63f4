"""One request to the cloud and its answer, within a time and a size that nobody can stretch.

From the standard library alone: a device should not have to carry more. Chapter 10.
"""

from __future__ import annotations

import contextlib
import io
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from typing import Any
from urllib.parse import urlsplit

from data_prep.arguments import number, whole
from duetlib.serving.payload import Refused, TooLarge

HEAD = 16_384  # bytes that an answer may have around its body: status, headers, chunk sizes
Transport = Callable[[bytes, int], bytes]  # a request, and the most bytes that its answer may have


class NoConnection(Refused):
    """Nobody answers at the cloud's address."""


class TimedOut(Refused):
    """The answer was not there in time."""


class CutOff(Refused):
    """The connection broke before the answer was whole."""


class NotHttp(Refused):
    """Whatever answered does not speak HTTP."""


class TransportFailed(Refused):
    """A transport raised an error of its own, or gave something that is not bytes."""


class Declined(Refused):
    """The cloud answered, but not with weights.

    Args:
        status: of HTTP; counted by it, as `status_401`.

    Raises:
        ValueError: for what is no status.
    """

    def __init__(self, status: int):
        whole(100, 999, status=status)
        super().__init__(f"the cloud answered with status {status}")
        self.status = status

    @property
    def counter(self) -> str:
        """`status_` and the number."""
        return f"status_{self.status}"


@dataclass(frozen=True)
class Http:
    """Sends one request to the cloud, over a connection of its own.

    Args:
        url: `http://` or `https://`, host and port. token: the cloud's bearer token; never shown.
        timeout: seconds from the first byte sent to the last received. Reaching the cloud may take
            as long again for each address that its name stands for, and looking up the name
            as long as the system lets it.

    Raises:
        ValueError: for an address, a token or a timeout that could never be used.
    """

    url: str
    token: str = field(repr=False)
    timeout: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.url, str) or "@" in self.url:  # before it, a password may stand
            raise ValueError("url is no text, or names a user: give http:// or https:// and a host")
        try:
            at = urlsplit(self.url)
            host = re.fullmatch(r"[\w.:-]+", at.hostname or "")
            more = at.path.strip("/") or at.query or at.fragment
            fits = at.scheme in ("http", "https") and bool(host) and at.port != 0 and not more
        except ValueError:  # of a port that is none, or brackets
            fits = False
        if not fits:
            shown = self.url.partition("?")[0] if "://" in self.url else "no address"  # or a token
            raise ValueError(f"url is {shown!r}: give http:// or https://, a host and a port")
        # else http.client refuses it, and shows it
        if not isinstance(self.token, str) or not re.fullmatch("[!-~]+", self.token):
            raise ValueError("the token is empty, no text, or has a space or a line's end in it")
        number(0, 3600, above=True, timeout=self.timeout)

    def __call__(self, request: bytes, limit: int) -> bytes:
        """The answer's body.

        Args:
            request: the body to send. limit: the most bytes that the answer may have.

        Raises:
            Refused: if there is no whole answer in time, or it is not one with weights.
            ValueError: for a limit that is none.
        """
        whole(1, limit=limit)
        at = urlsplit(self.url)
        kind = HTTPSConnection if at.scheme == "https" else HTTPConnection
        connection = kind(at.hostname or "", at.port, timeout=self.timeout)
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:  # of a name that can be none
            late = isinstance(error, TimeoutError)
            raise (TimedOut if late else NoConnection)(f"no connection: {error}") from None
        with contextlib.closing(connection), _deadline(connection.sock, self.timeout) as ended:
            try:
                answer = self._exchange(connection, request, limit)
                if ended.is_set():  # an answer without a length ends where we ended it
                    raise TimeoutError
                return answer
            except (OSError, IncompleteRead, HTTPException, ValueError) as error:
                if ended.is_set() or isinstance(error, TimeoutError):
                    raise TimedOut(f"no whole answer within {self.timeout} s") from None
                broken = isinstance(error, OSError | IncompleteRead)
                what = f"{type(error).__name__} {error}".strip()
                raise (CutOff if broken else NotHttp)(what) from None

    def _exchange(self, connection: HTTPConnection, request: bytes, limit: int) -> bytes:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request("POST", "/weights", request, headers)
        received = _Received(connection.sock, limit + HEAD)
        with contextlib.closing(HTTPResponse(received, method="POST")) as response:  # type: ignore[arg-type]
            response.begin()
            if response.status != 200:
                raise Declined(response.status)
            answer = response.read(limit + 1)
            if len(answer) > limit:
                raise TooLarge(f"more than {limit} bytes")
            if response.length:  # bytes that were announced and never came
                raise IncompleteRead(answer, response.length)
            return answer


class _Received(io.RawIOBase):
    """What a socket receives, but no more than so many bytes, whatever frames them.

    `http.client` bounds a line and a body of known length. It does not bound a chunk of size -1,
    trailers, or "100 Continue" without end.
    """

    def __init__(self, sock: socket.socket, most: int):
        self.sock, self.left = sock, most

    def makefile(self, mode: str) -> io.BufferedReader:
        """What `HTTPResponse` asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """As a buffer wants it."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Receive once; more than is left, and it is too large."""
        received = self.sock.recv_into(buffer, min(len(buffer), self.left + 1))
        self.left -= received
        if self.left < 0:
            raise TooLarge("no end of status, headers or chunks")
        return received


@contextlib.contextmanager
def _deadline(sock: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Shut a socket after so many seconds: its own timeout begins anew with every byte."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield ended
    finally:
        timer.cancel()

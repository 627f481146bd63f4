"""One request to the cloud and its answer, within a time and a size that nobody can stretch.

From the standard library alone: a device should not have to carry more. Chapter 10.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead
from urllib.parse import urlsplit

from .payload import Refused, TooLarge

Transport = Callable[[bytes, int], bytes]  # a request, and the most bytes that its answer may have


class NoConnection(Refused):
    """Nobody answers at the cloud's address."""


class TimedOut(Refused):
    """The answer was not there in time."""


class CutOff(Refused):
    """The connection broke before the answer was whole."""


class NotHttp(Refused):
    """Whatever answered does not speak HTTP."""


class Declined(Refused):
    """The cloud answered, but not with weights.

    Args:
        status: of HTTP; counted by it, as `status_401`.
    """

    def __init__(self, status: int):
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
        url: `http://` or `https://`, host and port. token: the cloud's bearer token.
        timeout: seconds from the first byte sent to the last received. Reaching the cloud may take
            as long again for each address that its name stands for, and looking up the name
            as long as the system lets it.

    Raises:
        ValueError: for an address or a token that could never be used.
    """

    url: str
    token: str
    timeout: float = 1.0

    def __post_init__(self) -> None:
        at = urlsplit(self.url)
        host = re.fullmatch(r"[\w.:-]+", at.hostname or "")
        if at.scheme not in ("http", "https") or not host or at.port == 0 or at.path.strip("/"):
            raise ValueError(f"url is {self.url!r}: give http:// or https://, a host and a port")
        if not re.fullmatch("[!-~]+", self.token):  # else http.client refuses it, and shows it
            raise ValueError("the token is empty, or has a space or a line's end in it")

    def __call__(self, request: bytes, limit: int) -> bytes:
        """The answer's body.

        Args:
            request: the body to send. limit: the most bytes that the answer may have.

        Raises:
            Refused: if there is no whole answer in time, or it is not one with weights.
        """
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
        response = connection.getresponse()
        if response.status != 200:
            raise Declined(response.status)
        answer = response.read(limit + 1)
        if len(answer) > limit:
            raise TooLarge(f"more than {limit} bytes")
        if response.length:  # bytes that were announced and never came
            raise IncompleteRead(answer, response.length)
        return answer


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

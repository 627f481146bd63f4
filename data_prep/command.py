"""How every command line ends: with its status, and with one line where Ctrl-C ends it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

INTERRUPTED = 130  # 128 and the number of the signal, as shells count


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Call a command line's `main` and exit with what it returns.

    What is wrong with data, or with a file, is said in a line. Ctrl-C shows no traceback: what was
    done by then is kept, and the next start goes on from there.
    """
    from .sources import DataError  # here: a command line's own options are refused sooner

    try:
        status = main()
    except (DataError, OSError) as error:
        print(error, file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        status = INTERRUPTED
    raise SystemExit(status)

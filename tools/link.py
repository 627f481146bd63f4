"""A link between a device and the cloud that can be slow, far, lossy or dead.

Two network namespaces, each with a TUN device, and between them this program: it carries every IP
packet from one to the other, and makes it wait or loses it. The TCP above is the kernel's own.

    with Link(PROFILES["5 MB/s, 50 ms"]) as link:
        with link.inside("cloud"):  # what is started here is the cloud
            server = subprocess.Popen([..., "--host", ADDRESS["cloud"]])
        with link.inside("device"):
            urllib.request.urlopen(f"http://{ADDRESS['cloud']}:8000")

Nothing leaves the machine: the namespaces have no other interface. Needs Linux, root, iproute2 and
/dev/net/tun; `why_not()` says what is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import math
import os
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ADDRESS = {"device": "10.98.0.1", "cloud": "10.98.0.2"}
NETWORK = "10.98.0.0/24"
MTU = 1500  # bytes of an IP packet, as on Ethernet
PREFIX = "duetlink"  # a namespace is called duetlink-PID-device; PID is the emulator's
NETNS = Path("/var/run/netns")
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_BATCH = 64  # packets taken from one side before the other has its turn
_SYSCTL = {
    "ipv4/tcp_no_metrics_save": "1",  # a new connection knows nothing of the earlier ones
    "ipv6/conf/all/disable_ipv6": "1",  # no neighbour discovery: the packets are ours alone
    "ipv6/conf/default/disable_ipv6": "1",
}


class LinkError(RuntimeError):
    """The link could not be made; the message says why."""


@dataclass(frozen=True)
class Profile:
    """What the link does to a packet, the same both ways.

    Args:
        rate: bytes per second, headers included. rtt: seconds there and back, without the rate.
        jitter: seconds; each way a packet takes up to half of it longer, and none overtakes.
        loss: the share of packets that are lost, each way, each by itself.
        buffer: bytes that may wait for their turn; what comes on top is lost. Endless unless
            given, so that no packet is lost but those of `loss`.
        congestion: the kernel's congestion control; `cubic` is Linux's default.
        send_buffer: bytes that TCP may hold until they are acknowledged; 4 MiB is Linux's default.
        seed: of the losses and the jitter.
    """

    rate: float = math.inf
    rtt: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    buffer: float = math.inf
    congestion: str = "cubic"
    send_buffer: int = 4 << 20
    seed: int = 0

    def __post_init__(self) -> None:
        # As comparisons that nan fails. `data_prep.arguments` cannot be had under `python -S`.
        fits = self.rate > 0 and self.buffer >= 0 and 0 <= self.loss <= 1
        fits = fits and 0 <= self.rtt < math.inf and 0 <= self.jitter < math.inf
        fits = fits and self.send_buffer >= 1 and bool(re.fullmatch(r"\w+", self.congestion))
        if not fits:
            raise ValueError(
                "rate > 0, rtt, jitter, buffer >= 0, 0 <= loss <= 1, send_buffer >= 1, "
                f"congestion a word, not {self}"
            )


PROFILES = {
    f"{rate} MB/s, {rtt} ms": Profile(rate=rate * 1e6, rtt=rtt / 1e3)
    for rate in (5, 15, 50, 100)  # Table 3; there a MB is 1,000,000 bytes
    for rtt in (10, 50, 100)
}
# On the longest and widest link more is under way than a usual send buffer holds.
PROFILES["100 MB/s, 100 ms, large buffer"] = Profile(rate=100e6, rtt=0.1, send_buffer=32 << 20)
PROFILES["lossy"] = Profile(rate=15e6, rtt=0.05, loss=0.05)
PROFILES["dead"] = Profile(rate=15e6, rtt=0.05, loss=1.0)
PROFILES["free"] = Profile()  # no limit: what the emulator itself and the two programs take


class Wire:
    """One direction: packets leave one after another at the link's rate, then travel.

    Args:
        profile: what happens to them. send: called with each packet on arrival.
    """

    def __init__(self, profile: Profile, send: Callable[[bytes], object], seed: int = 0):
        self.profile, self.send = profile, send
        self.dice = random.Random(f"{profile.seed} {seed}")
        self.travelling: deque[tuple[float, bytes]] = deque()  # (time of arrival, packet)
        self.idle_from = self.last = 0.0
        self.counts = {"packets": 0, "bytes": 0, "lost": 0, "overflowed": 0, "late_max": 0.0}

    def push(self, packet: bytes, now: float) -> None:
        """Take a packet at time `now` (s)."""
        profile, counts = self.profile, self.counts
        counts["packets"] += 1
        if profile.loss and self.dice.random() < profile.loss:
            counts["lost"] += 1
            return
        start = max(now, self.idle_from)
        if (start - now) * profile.rate > profile.buffer:
            counts["overflowed"] += 1
            return
        self.idle_from = start + len(packet) / profile.rate
        travel = profile.rtt / 2
        if profile.jitter:
            travel += self.dice.random() * profile.jitter / 2
        self.last = max(self.last, self.idle_from + travel)
        self.travelling.append((self.last, packet))

    def deliver(self, now: float) -> None:
        """Send what has arrived by `now` (s)."""
        travelling, counts = self.travelling, self.counts
        if travelling:
            counts["late_max"] = max(counts["late_max"], now - travelling[0][0])
        while travelling and travelling[0][0] <= now:
            packet = travelling.popleft()[1]
            counts["bytes"] += len(packet)
            self.send(packet)

    def wait(self, now: float, longest: float) -> float:
        """Seconds until the next packet arrives, `longest` at most."""
        return max(0.0, min(longest, self.travelling[0][0] - now)) if self.travelling else longest


@contextlib.contextmanager
def namespace(name: str) -> Iterator[None]:
    """The calling thread, and what it starts, in the network namespace `name` for a while."""
    libc = ctypes.CDLL(None, use_errno=True)
    # A thread's own entry: /proc/self would be the main thread's.
    with open("/proc/thread-self/ns/net", "rb") as home, open(NETNS / name, "rb") as there:
        _set_namespace(libc, there.fileno())
        try:
            yield
        finally:
            _set_namespace(libc, home.fileno())


def _set_namespace(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise LinkError(f"setns: {os.strerror(ctypes.get_errno())}")


def _ip(*words: str) -> str:
    """Run `ip`; LinkError with its message where it fails."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LinkError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def why_not() -> str:
    """Why no link can be made here, or an empty string."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip` (package iproute2)"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
        name = f"{PREFIX}-{os.getpid()}-trial"
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except (OSError, LinkError) as problem:
        return str(problem)
    return ""


def open_end(name: str, side: str, profile: Profile) -> int:
    """Make a namespace with one TUN device in it, and return the device's file."""
    _ip("netns", "add", name)
    with namespace(name):
        buffer = f"4096 16384 {profile.send_buffer}"
        for key, value in {**_SYSCTL, "ipv4/tcp_wmem": buffer}.items():
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                Path("/proc/sys/net", key).write_text(value)
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        flags = _IFF_TUN | _IFF_NO_PI
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"link0", flags))
    for line in (
        f"link set link0 mtu {MTU} txqueuelen 20000 up",  # a whole window fits
        f"addr add {ADDRESS[side]}/24 dev link0",
        "link set lo up",
        # By the route: a namespace may not choose what the machine does not allow.
        f"route replace {NETWORK} dev link0 src {ADDRESS[side]} congctl {profile.congestion}",
    ):
        _ip("-n", name, *line.split())
    return tun


def delete(name: str) -> None:
    """Delete a namespace, and end what still runs in it."""
    spared = os.getpid(), os.getppid()  # a caller that leaves the link before the namespace
    for pid in map(int, _ip("netns", "pids", name).split()):
        if pid not in spared:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    _ip("netns", "del", name)


def sweep() -> list[str]:
    """Delete the namespaces of emulators that were killed, and return their names."""
    found = sorted(path.name for path in NETNS.glob(f"{PREFIX}-*")) if NETNS.exists() else []
    dead = []
    for name in found:
        owner = re.fullmatch(rf"{PREFIX}-(\d+)-\w+", name)
        if owner and not Path("/proc", owner[1]).exists():
            delete(name)
            dead.append(name)
    return dead


def carry(ends: dict[str, int], profile: Profile, until: int) -> dict[str, Any]:
    """Carry packets between two TUN devices until `until` can be read; return what was counted."""

    def sender(to: int) -> Callable[[bytes], object]:
        def send(packet: bytes) -> None:
            with contextlib.suppress(OSError):  # the device is going away
                os.write(to, packet)

        return send

    up = Wire(profile, sender(ends["cloud"]), seed=1)
    down = Wire(profile, sender(ends["device"]), seed=2)
    wire = {ends["device"]: up, ends["cloud"]: down}
    sources = [*wire, until]
    while True:
        now = time.monotonic()
        up.deliver(now)
        down.deliver(now)
        now = time.monotonic()
        ready = select.select(sources, [], [], down.wait(now, up.wait(now, 1.0)))[0]
        if until in ready:
            return {"up": up.counts, "down": down.counts}
        for source in ready:
            take(source, wire[source])


def take(source: int, wire: Wire) -> None:
    """Move the packets that wait in a TUN device onto its wire."""
    now = time.monotonic()
    try:
        for _ in range(_BATCH):
            wire.push(os.read(source, MTU), now)
    except BlockingIOError:
        pass


def emulate(profile: Profile) -> None:
    """The emulator's process: make both ends, say so, carry until standard input closes.

    Whoever started it may die in any way: its end of the pipe closes, and the namespaces go.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.suppress(OSError):  # a packet's time should not depend on who else is busy
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
    names = {side: f"{PREFIX}-{os.getpid()}-{side}" for side in ADDRESS}
    try:
        ends = {side: open_end(name, side, profile) for side, name in names.items()}
        print(json.dumps(names), flush=True)
        print(json.dumps(carry(ends, profile, sys.stdin.fileno())), flush=True)
    finally:
        for name in names.values():
            if (NETNS / name).exists():
                delete(name)


class Link:
    """A device's namespace and a cloud's, joined by an emulated link; a context manager.

    Args:
        profile: what the link does.

    On leaving, `counts["up"]` and `counts["down"]` say for each direction how many packets were
    taken in and lost, how many bytes were delivered, and how late the latest delivery was (s).
    """

    def __init__(self, profile: Profile):
        self.profile = profile
        self.counts: dict[str, Any] = {}

    def __enter__(self) -> Link:
        if reason := why_not():
            raise LinkError(f"no link can be made here: {reason}")
        sweep()
        command = [sys.executable, "-S", __file__, json.dumps(asdict(self.profile))]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the caller, who then closes the pipe
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        if not first:
            self.process.wait()
            raise LinkError("the emulator did not start; its message stands above")
        self.names: dict[str, str] = json.loads(first)
        return self

    def __exit__(self, *_: object) -> None:
        last = self.process.communicate()[0]
        self.counts = json.loads(last) if last else {}

    def inside(self, side: str) -> contextlib.AbstractContextManager[None]:
        """The calling thread, and what it starts, in the `device`'s or the `cloud`'s namespace."""
        if side not in self.names:
            raise ValueError(f"side is {side!r}: it must be one of {', '.join(self.names)}")
        return namespace(self.names[side])


if __name__ == "__main__":
    emulate(Profile(**json.loads(sys.argv[1])))

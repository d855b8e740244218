"""The processes that torchrun starts, on one machine or several, and what each of them does.

The first, rank 0, is the run, as it is without torchrun: it checks, measures, decides and writes. The others wait for
it. Where it comes to a training, each process starts a worker, as Ultralytics does for several GPUs. All others are
connected to the first, so that one that ends too early, on whichever machine, ends all at once and in words; workers
alone might wait for its gradients for hours.

Nothing heavy is imported here: these processes are there beside the workers the whole time.
"""

from __future__ import annotations

import _thread
import json
import os
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from yolo_distill.errors import DistillError

#: How long processes wait for each other at the start, in seconds.
MEETING = 40.0
#: How long the others have to say how they ended, once one of them failed, in seconds.
LAST_WORDS = 3.0
#: Where all meet if they are on one machine: nobody else can come.
LOCAL = "127.0.0.1"
#: What a worker ends with that could not reach another one, which is why it failed.
LEFT_ALONE = 75
#: Of the environment, what torchrun sets beside all that begins with TORCHELASTIC_.
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_team: Team | None = None
_by_torchrun = False


class Place(NamedTuple):
    """A process's place among all, by what torchrun calls it; `address` is the first one's, `key` that of the run."""

    rank: int
    local_rank: int
    world: int
    local_world: int
    address: str
    key: str


def take_place() -> Place | None:
    """Return this process's place and take it out of the environment; None where torchrun has not started several.

    Relies on: Ultralytics takes a process with `RANK` for a worker, when it is imported, and trains in it.
    """
    global _by_torchrun
    found = os.environ
    if "TORCHELASTIC_RUN_ID" not in found or int(found.get("WORLD_SIZE", 1)) < 2:
        return None
    key = f"{found['TORCHELASTIC_RUN_ID']} {found['MASTER_ADDR']} {found['MASTER_PORT']}"
    rank, local_rank, world, local_world = (int(found[name]) for name in _VARIABLES[:4])
    address = LOCAL if local_world == world else found["MASTER_ADDR"]
    place = Place(rank, local_rank, world, local_world, address, key)
    for name in [name for name in found if name in _VARIABLES or name.startswith("TORCHELASTIC_")]:
        del found[name]
    _by_torchrun = True
    return place


def team() -> Team | None:
    """Return the processes that this one leads; None without torchrun, and in workers."""
    return _team


def goes_on_by(last: Path | str | None) -> str:
    """Return what to type to go on with a run, of which `last` is the newest checkpoint, if there is one."""
    if last is None or not Path(last).is_file():
        return "the same command starts it again"
    command = "the same torchrun -m yolo_distill" if _by_torchrun else "yolo-distill"
    return f"go on with: {command} train resume={last}"


class Team:
    """All processes of a run, as the first of them has them.

    Attributes:
        place: of this process.
        lost: another process ended before its time, and this one is ending.
    """

    def __init__(self, place: Place) -> None:
        """Wait for the others.

        Raises:
            DistillError: some did not come.
        """
        self.place, self.lost = place, False
        self._ended, self._last = False, ""
        self._worker: subprocess.Popen[bytes] | None = None
        self._codes: queue.Queue[tuple[int, int, int]] = queue.Queue()
        self._others, self._hosts = _meet(place)

    def __enter__(self) -> Team:
        global _team
        _team = self
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        global _team
        _team, self._ended = None, True
        self._send({"end": int(kind is not None)})
        if self.lost:  # the words were said
            raise SystemExit(1) from error

    def train(self, state: bytes, port: int, last: Path | None) -> None:
        """Train in a worker of each process.

        Args:
            state: what a worker builds its trainer from, see `worker.py`.
            port: free on this machine, where the workers find each other.
            last: the checkpoint that `resume=` would go on from.

        Raises:
            DistillError: a worker failed, or was killed.
        """
        self._last = str(last or "")
        self._send({"train": port, "last": self._last}, state)
        self._worker = worker = start_worker(self.place, port, state)
        codes: dict[int, int] = {}
        until = float("inf")
        try:
            while len(codes) < self.place.world and time.monotonic() < until:
                if 0 not in codes and (code := worker.poll()) is not None:
                    codes[0] = code
                with suppress(queue.Empty):
                    job, rank, code = self._codes.get(timeout=0.1)
                    codes |= {rank: code} if job == port else {}
                if any(codes.values()):
                    until = min(until, time.monotonic() + LAST_WORDS)
        finally:
            worker.kill()
        if any(codes.values()):
            self._send({"stop": port})
            raise DistillError(f"{self._why(codes)}; {goes_on_by(last)}")

    def _why(self, codes: dict[int, int]) -> str:
        """Return which worker failed first: one that was killed, or failed by itself, and not for want of another."""
        rank, code = min(
            ((rank, code) for rank, code in codes.items() if code), key=lambda one: (one[1] > 0, one[1] == LEFT_ALONE)
        )
        how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}, as it says above"
        if code == LEFT_ALONE:
            how = "lost its connection to another"
        return f"the worker of rank {rank} on {self._hosts[rank]} {how}"

    def _listen(self) -> None:
        """Take what the others report, and end all where one of them is gone; in a thread of its own."""
        ranks: dict[Any, int] = {link: rank for rank, link in self._others.items()}
        while True:
            for link in wait(list(ranks)):
                try:
                    report = json.loads(link.recv_bytes())  # type: ignore[union-attr]
                    self._codes.put((report["train"], ranks[link], report["code"]))
                except (EOFError, OSError):
                    if self._ended:
                        return
                    self._lose(ranks[link])

    def _lose(self, rank: int) -> None:
        self.lost = True
        _say(f"rank {rank} on {self._hosts[rank]} is gone, so all end; {goes_on_by(self._last)}")
        if self._worker is not None:
            self._worker.kill()
        self._send({"end": 1})
        _thread.interrupt_main()
        time.sleep(10)
        if not self._ended:
            os._exit(1)  # the main thread is deep in a calculation

    def _send(self, message: dict[str, Any], state: bytes = b"") -> None:
        for link in self._others.values():
            with suppress(OSError):  # the listening thread sees that one is gone
                link.send_bytes(json.dumps(message).encode())
                if state:
                    link.send_bytes(state)


def serve(place: Place) -> int:
    """Do in a process that is not the first what the first one says; return the exit code."""
    first = _join(place)
    last, worker, job = "", None, 0
    try:
        while True:
            if worker is not None and (code := worker.poll()) is not None:
                first.send_bytes(json.dumps({"train": job, "code": code}).encode())
                worker = None
            if not first.poll(0.1):
                continue
            message = json.loads(first.recv_bytes())
            if "end" in message:
                return int(message["end"])
            if worker is not None:
                worker.kill()
                worker = None
            if "train" in message:
                last, job = message["last"], message["train"]
                worker = start_worker(place, job, first.recv_bytes())
    except (EOFError, OSError):
        _say_the_first_is_gone(place, last)
        return 1
    except KeyboardInterrupt:  # by a user, or by torchrun, of whose processes one has ended
        if _is_gone(first):
            _say_the_first_is_gone(place, last)
        return 1
    finally:
        if worker is not None:
            worker.kill()


def start_worker(place: Place, port: int, state: bytes) -> subprocess.Popen[bytes]:
    """Start the worker of a process, with an environment as Ultralytics' launcher makes it.

    It ends where its standard input does, so that none outlives the process which started it.
    """
    values = (place.rank, place.local_rank, place.world, place.local_world, place.address, port)
    environment = os.environ | {name: str(value) for name, value in zip(_VARIABLES, values, strict=True)}
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each would remark on how the host has gradients averaged
    command = [sys.executable, "-m", "yolo_distill.torchrun.worker"]
    worker = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
    assert worker.stdin is not None
    with suppress(BrokenPipeError):  # it has ended, and its exit code is seen to
        worker.stdin.write(len(state).to_bytes(8, "big") + state)
        worker.stdin.flush()
    return worker


def _meet(place: Place) -> tuple[dict[int, Connection], list[str]]:
    """Return the connections to all others, and the names of all machines, by rank."""
    others: dict[int, Connection] = {}
    hosts = [socket.gethostname()] * place.world
    ends = time.monotonic() + MEETING
    with _listening(place) as door:
        while len(others) < place.world - 1:
            door.settimeout(max(ends - time.monotonic(), 0.01))
            try:
                found, _ = door.accept()
                found.settimeout(5)
                hello = json.loads(found.recv(4096))
                if hello["key"] == place.key:
                    found.sendall(b"welcome")
                    hosts[hello["rank"]] = hello["host"]
                    others[hello["rank"]] = _kept_alive(found)
            except (OSError, ValueError, KeyError, TypeError):  # a stranger, or nobody
                if time.monotonic() > ends:
                    missing = _missing(place, others)
                    said = f"did not come within {MEETING:.0f} s, or can't reach {place.address}; start all again"
                    raise DistillError(f"rank {missing} {said}") from None
            except KeyboardInterrupt:  # by torchrun, too, where another process has ended
                _say(f"rank {_missing(place, others)} had not come yet; start all again")
                raise
    return others, hosts


def _missing(place: Place, others: dict[int, Connection]) -> str:
    return ", ".join(str(rank) for rank in range(1, place.world) if rank not in others)


def _listening(place: Place) -> socket.socket:
    for port in _ports(place):
        with suppress(OSError):  # another program's
            return socket.create_server((LOCAL if place.address == LOCAL else "", port), backlog=place.world)
    raise DistillError(f"ports {', '.join(map(str, _ports(place)))} are all taken; start all again")


def _join(place: Place) -> Connection:
    """Return the connection to the first process.

    Raises:
        DistillError: it does not answer.
    """
    hello = json.dumps({"key": place.key, "rank": place.rank, "host": socket.gethostname()}).encode()
    ends = time.monotonic() + MEETING
    while time.monotonic() < ends:
        for port in _ports(place):
            with suppress(OSError):
                link = socket.create_connection((place.address, port), timeout=5)
                link.sendall(hello)
                if link.recv(7) == b"welcome":
                    return _kept_alive(link)
                link.close()
        time.sleep(0.2)
    raise DistillError(f"rank {place.rank}: rank 0 does not answer at {place.address}; start all again")


def _ports(place: Place) -> list[int]:
    """Return where the first process may listen, the same in all, below those that systems hand out by themselves."""
    return random.Random(place.key).sample(range(10000, 32768), 8)


def _kept_alive(link: socket.socket) -> Connection:
    """Return a socket as a connection that also ends, within half a minute, where the other machine is gone."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30000}.items():
        if hasattr(socket, name):  # not on every system
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    link.settimeout(None)
    return Connection(link.detach())


def _is_gone(link: Connection) -> bool:
    try:
        while link.poll(1):
            link.recv_bytes()
    except (EOFError, OSError):
        return True
    return False


def _say_the_first_is_gone(place: Place, last: str) -> None:
    if place.local_rank == 0 or place.rank == 1:  # one a machine
        _say(f"rank 0 on {place.address} is gone, so all end; {goes_on_by(last)}")


def _say(words: str) -> None:
    print(f"yolo-distill: {words}", file=sys.stderr, flush=True)

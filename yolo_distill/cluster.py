"""Ray, where `ray=` asks for it: the machines of a cluster, or processes that it starts on this one."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from yolo_distill.errors import DistillError, RequestError, missing_extra, one_line
from yolo_distill.files import is_address
from yolo_distill.settings import Setting

SETTINGS = {
    "ray": Setting(str, "spread the work by Ray: local, auto, or HOST:PORT of a cluster"),
    "ray_cpus": Setting(float, "processors that Ray sets aside for each part of the work", 1.0, above=0, high=1024),
    "ray_gpus": Setting(float, "GPUs of each part of the work; 0.5: two parts share one", 0.0, low=0, high=64),
}

#: Times that Ray begins a part of the work again, whose process or machine is gone.
RETRIES = 3

LOCAL = "local"
GOES_ON = "what is done is kept, and the same command goes on"
_ADDRESS = re.compile(r"local|auto|[^/\s:]+:\d+")
_STORE = 100_000_000  # bytes of shared memory that Ray takes at once: what is sent are file names


@dataclass(frozen=True)
class Cluster:
    """What `ray=` names, and what each part of the work gets there."""

    address: str
    cpus: float = 1.0
    gpus: float = 0.0

    @property
    def threads(self) -> int:
        """Threads of each part of the work, the same on every node."""
        return max(int(self.cpus), 1)

    @property
    def device(self) -> str | None:
        """Device of each part; None: the GPU that Ray gives it, which is the only one that it sees."""
        return None if self.gpus else "cpu"

    @property
    def resources(self) -> dict[str, float]:
        """What Ray sets aside, by its own words."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}


def take_cluster(settings: MutableMapping[str, Any], device: Any) -> Cluster | None:
    """Take the settings of Ray out of those of a command; None where it is not asked for.

    Raises:
        RequestError: it is not installed, or can't be asked for like this.
    """
    address, cpus, gpus = (settings.pop(key) for key in SETTINGS)
    if not address:
        for key, value in (("ray_cpus", cpus), ("ray_gpus", gpus)):
            if value != SETTINGS[key].default:
                raise RequestError(f"{key}={value:g}: is for Ray; add ray=local, or ray= of a cluster")
        return None
    if not _ADDRESS.fullmatch(address):
        raise RequestError(f"ray={address}: expected local, auto, or HOST:PORT of a cluster that this machine is in")
    if find_spec("ray") is None:
        raise missing_extra("ray", f"ray={address}", "ray")
    if device not in {None, "cpu"} or (device == "cpu" and gpus):
        raise RequestError(f"device={device}: Ray gives out the devices; leave it out, and say ray_gpus=1 for GPUs")
    return Cluster(address, cpus, gpus)


def require_folder(out: Any) -> None:
    """Refuse addresses such as s3:// where a folder is wanted.

    Raises:
        RequestError: it is one.
    """
    if is_address(out):
        raise RequestError(
            f"out={out}: is an address; mount it as a folder (s3fs, gcsfuse, MOUNT of SkyPilot), and give that"
        )


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Give the module `ray`, connected; what it does for this process ends with the block, or with the process.

    A program that is connected already stays so.

    Raises:
        DistillError: it can't be reached.
        RequestError: it has no room.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it prints a tip about that
    import ray

    theirs = ray.is_initialized()
    if not theirs:
        _join(ray, cluster)
    try:
        _require_room(ray, cluster)
        yield ray
    finally:
        if not theirs:
            ray.shutdown()


def reconnect(ray: Any, cluster: Cluster) -> None:
    """Leave a Ray whose process on this machine is gone, and start another one, as `connected` does."""
    ray.shutdown()
    _join(ray, cluster)


def is_lost(ray: Any) -> bool:
    """Return whether Ray's process on this machine is gone, without which nothing more is begun."""
    own = ray.get_runtime_context().get_node_id()
    return not any(node["Alive"] and node["NodeID"] == own for node in ray.nodes())


def _join(ray: Any, cluster: Cluster) -> None:
    from yolo_distill.machine import usable_cores

    own: dict[str, Any] = {}
    if cluster.address == LOCAL:
        own = {"num_cpus": usable_cores(), "include_dashboard": False, "object_store_memory": _STORE}
        os.environ.setdefault("RAY_worker_niceness", "0")  # as urgent as this process; Ray's own choice is 15
        print("starting Ray ...", file=sys.stderr, flush=True)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # a bare one where a busy machine starts it too slowly
        what = "`ray status` says what runs here; ray=local needs none"
        if cluster.address == LOCAL:
            what = "a machine that is less busy may start it: give the same command again"
        raise DistillError(f"ray={cluster.address}: Ray can't be reached ({one_line(error)}); {what}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own ends the process without a word


def _require_room(ray: Any, cluster: Cluster) -> None:
    """Refuse what no node can ever do; one of a cluster that grows may be still to come."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("CPU", 0) >= cluster.cpus and node.get("GPU", 0) >= cluster.gpus for node in nodes):
        return
    has = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes[:3])
    said = f"ray_cpus={cluster.cpus:g} ray_gpus={cluster.gpus:g}: no node has as much ({has})"
    if cluster.address == LOCAL:
        raise RequestError(f"{said}; ask for less")
    print(f"{said}; what is asked for waits until one joins", flush=True)

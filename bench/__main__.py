"""Runs the benchmarks: `python -m bench [--json FILE] [--only PART …] [--apps N]`; stops everything it starts."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.parts.install import install_all
from tests.parts.kube import KubeApi
from tests.parts.process import PartFailed, find_free_ports
from tests.parts.redis import RedisServer

from .approving import measure_approving
from .bridging import measure_bridge
from .deciding import measure_deciding
from .hostile import measure_hostile
from .inside import measure_inside
from .issuer import Issuer
from .proposal_page import measure_proposal_page
from .reading import measure_reading
from .redacting import measure_redacting
from .replaying import measure_replaying
from .report import Part, describe_machine, print_part, write_json
from .servers import find_peer, run_arborgate, run_bare, run_peer, write_settings
from .starting import measure_start
from .throughput import measure_throughput
from .world import fill

PARTS: Final = (
    "approving",
    "bridging",
    "deciding",
    "hostile",
    "inside",
    "proposal_page",
    "reading",
    "redacting",
    "replaying",
    "starting",
    "throughput",
)


def main() -> int:
    """Prints one table per part; 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Arborgate beside others, in one run.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure these parts alone")
    parser.add_argument("--apps", type=int, default=2_000, help="Applications in the cluster (default: 2000)")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whatever was started is stopped on the way out
    install_all()
    find_peer()
    print(describe_machine())
    done = []
    # Not below /tmp as such: on many machines that is memory, and a durable record would cost nothing there.
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as folder:
        for part in _measure(Path(folder), asked.only, asked.apps):
            print_part(part)
            done.append(part)
    if asked.json:
        write_json(done, asked.json)
    missed = [line.what for part in done for line in part.lines if line.holds is False]
    if missed:
        print(f"\nMissed: {'; '.join(missed)}")
    return 1 if missed else 0


def _measure(folder: Path, only: Sequence[str], apps: int) -> Iterator[Part]:
    yield from _measure_alone(folder, only, apps)
    if not {"bridging", "reading", "starting", "throughput"} & set(only):
        return
    with ExitStack() as running:
        redis = running.enter_context(RedisServer(folder))
        api = running.enter_context(KubeApi(folder))
        issuer = running.enter_context(Issuer())
        fill(api, apps)
        (port,) = find_free_ports(1)
        settings = write_settings(folder, api, redis, issuer, port)
        if "starting" in only:
            yield measure_start(settings, folder)
        ours = running.enter_context(run_arborgate(folder, settings, issuer, port))
        if "bridging" in only:
            yield measure_bridge(ours, issuer, folder)
        if "reading" in only:
            with run_peer(folder, api) as peer:
                yield measure_reading(ours, peer, api, apps)
        if "throughput" in only:
            with run_bare(folder) as bare:
                yield measure_throughput(ours, bare)


def _measure_alone(folder: Path, only: Sequence[str], apps: int) -> Iterator[Part]:
    """The parts that bring along what they need."""
    alone: Mapping[str, Callable[[], Part]] = {
        "approving": lambda: measure_approving(folder),
        "deciding": lambda: measure_deciding(folder),
        "inside": lambda: measure_inside(folder, apps),
        "proposal_page": lambda: measure_proposal_page(folder),
        "redacting": lambda: measure_redacting(folder),
        "hostile": lambda: measure_hostile(folder),
        "replaying": lambda: measure_replaying(folder, apps),
    }
    for name, measure in alone.items():
        if name in only:
            yield measure()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PartFailed as failed:
        sys.exit(str(failed))

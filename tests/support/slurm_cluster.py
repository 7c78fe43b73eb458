"""A real Slurm of two nodes on this machine, for a test: munged, slurmctld and two slurmd, ended with the test.

Nothing of the system is changed. Slurm and munge are Debian's: those on PATH, else fetched by `apt-get download` into a
cache folder and unpacked there, never installed. Keys, sockets, state and logs lie in the test's folder, ports are
free ones. Both nodes are this host (slurmd -N), so `srun` on node n2 runs here, under another node's name.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
NODES = ("n1", "n2")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longrl" / "slurm"
START_TIMEOUT_S, FETCH_TIMEOUT_S = 60.0, 300.0

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
PluginDir={plugins}
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,batch_sched_delay=0
ReturnToService=2
KillWait=5
MinJobAge=86400
JobRequeue=1
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=4000
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=4000
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class SlurmUnavailable(RuntimeError):
    """Slurm can't be had on this machine; the message says what was tried."""


class SlurmCluster:
    """Controller and two nodes, running between `with` and its end. Raises SlurmUnavailable.

    folder: short, for sockets lie in it (a socket's path has at most 107 characters). variables: what a user's shell
    needs for sbatch and the like.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, _binaries()
        self._plugins = next(self.root.glob("usr/lib/*/slurm-wlm"))
        paths = [str(self.root / "usr" / part) for part in ("bin", "sbin")]
        self.variables = {"PATH": ":".join([*paths, os.environ["PATH"]]), "SLURM_CONF": str(folder / "slurm.conf")}
        if self.root != Path("/"):
            self.variables["LD_LIBRARY_PATH"] = f"{self._plugins}:{self._plugins.parent}"
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "SlurmCluster":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        (self.folder / "state").mkdir(parents=True)
        key, munge = self.folder / "munge.key", self.folder / "munge.socket"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = [f"--{name}-file={self.folder / f'munge.{name}'}" for name in ("key", "pid", "log", "seed")]
        self._daemon("munged", "--foreground", "--force", f"--socket={munge}", *files)
        self._until(munge.exists, "munged's socket")

        host, ports = socket.gethostname().partition(".")[0], _free_ports(3)
        values = {"host": host, "user": _user(), "folder": self.folder, "plugins": self._plugins}
        text = CONFIGURATION.format(**values, ports=ports, nodes=NODES)
        (self.folder / "slurm.conf").write_text(text)
        self._daemon("slurmctld", "-D", "-i")
        stepd = self._tool("slurmstepd")
        for node in NODES:
            (self.folder / node).mkdir()
            self._daemon("slurmd", "-D", "-N", node, "-d", stepd)
        self._until(lambda: self._states() == {"idle"}, "both nodes idle")

    def stop(self) -> None:
        """End what runs on the nodes, then every daemon, by process id."""
        if len(self._daemons) > 2:
            self._command("scancel", "--quiet", f"--user={_user()}")
            with contextlib.suppress(TimeoutError):
                self._until(lambda: not self._command("squeue", "--noheader").stdout.strip(), "the jobs' end")
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self._daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()

    def run(self, *command: str) -> str:
        """Run a command as a user of the cluster would; return its output. Raises AssertionError with its errors."""
        done = self._command(*command)
        assert done.returncode == 0, f"{command} exited {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def job(self, job: int | str) -> dict[str, str]:
        """A job's fields, as `scontrol show job` names them."""
        words = self.run("scontrol", "show", "job", "--oneliner", str(job)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job: int | str, timeout_s: float) -> dict[str, str]:
        """The fields of a job that has ended for good. Raises TimeoutError with its last state."""
        ended = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
        self._until(lambda: self.job(job)["JobState"] in ended, f"the end of job {job}", timeout_s)
        return self.job(job)

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-2000:]}" for file in files)

    def _command(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.variables}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def _states(self) -> set[str]:
        return set(self._command("sinfo", "--noheader", "--Node", "--format=%T").stdout.split())

    def _tool(self, name: str) -> str:
        """A daemon's path: Debian calls some `NAME-wlm`, made NAME by an installation's alternatives."""
        for found in (self.root / "usr" / "sbin" / f"{name}-wlm", self.root / "usr" / "sbin" / name):
            if found.exists():
                return str(found)
        raise SlurmUnavailable(f"Slurm is without {name} in {self.root}/usr/sbin")

    def _daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.out.log").open("ab") as log:
            command = [self._tool(name), *arguments]
            self._daemons.append(
                subprocess.Popen(
                    command, env={**os.environ, **self.variables}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
            )

    def _until(self, condition: Callable[[], object], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            dead = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                told = f"ended: {dead}" if dead else f"not within {timeout_s:.0f} s"
                raise TimeoutError(f"Slurm: {what}: {told}\n{self.logs()}")
            time.sleep(0.3)


def _binaries() -> Path:
    """Folder with usr/bin/sbatch and the daemons: `/`, or an unpacked copy of Debian's packages."""
    if shutil.which("slurmctld", path="/usr/sbin") and shutil.which("munged", path="/usr/sbin"):
        return Path("/")
    if not CACHE.exists():
        _fetch(CACHE)
    return CACHE


def _fetch(target: Path) -> None:
    """Unpack Debian's packages, and what they need and the system lacks, into `target`. Raises SlurmUnavailable."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise SlurmUnavailable("Slurm is not installed (no slurmctld in /usr/sbin), and no apt-get is here to fetch it")
    aside = target.with_name(f"{target.name}.{os.getpid()}")
    for name in ("lists/partial", "archives/partial"):
        (aside / "apt" / name).mkdir(parents=True)
    places = {"Dir::State::lists": "lists", "Dir::Cache::archives": "archives", "Dir::Cache::pkgcache": ""}
    options = [f"-o{key}={aside / 'apt' / place if place else ''}" for key, place in places.items()]
    apt = ["apt-get", "-q", "-y", "-oDir::Cache::srcpkgcache=", "-oDebug::NoLocking=1", "-oAPT::Sandbox::User=root"]
    try:
        _call(*apt, *options, "update")
        _call(*apt, *options, "install", "--no-install-recommends", "--download-only", *PACKAGES)
        for package in sorted((aside / "apt" / "archives").glob("*.deb")):
            _call("dpkg", "-x", str(package), str(aside))
        shutil.rmtree(aside / "apt")
        with contextlib.suppress(OSError):  # another test run was faster
            aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _call(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise SlurmUnavailable(f"Slurm could not be fetched within {FETCH_TIMEOUT_S:.0f} s: {command}") from error
    if done.returncode:
        raise SlurmUnavailable(f"Slurm could not be fetched: {' '.join(command)}\n{done.stdout[-500:]}{done.stderr}")


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]

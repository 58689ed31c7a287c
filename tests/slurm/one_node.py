"""A real one-node Slurm on this machine, in its own folder: the controller, the node's daemon, and munge.

Needs root and the packages in ``PACKAGES``; uses no systemd, no accounting and no cgroups.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "munged")
NODE = "node"
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmdTimeout=6
MessageTimeout=5
TCPTimeout=1
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb}
PartitionName=short Nodes={node} Default=YES MaxTime=1-00:00:00
PartitionName=long Nodes={node} MaxTime=INFINITE
"""


def what_is_missing() -> str | None:
    """Why Slurm cannot run here, after trying to install it; None if it can."""
    if os.geteuid() != 0:
        return "needs root"
    if not all(map(shutil.which, PROGRAMS)):
        if shutil.which("apt-get") is None:
            return "Slurm is not installed and there is no apt-get to install it with"
        quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "capture_output": True, "check": False}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *PACKAGES], **quiet)
    if not all(map(shutil.which, PROGRAMS)):
        return f"apt-get could not install {', '.join(PACKAGES)}"
    return None


class OneNode:
    """The cluster, up inside ``with``; Slurm's commands find it by ``environment``."""

    def __init__(self, folder: Path):
        self.folder = folder
        path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
        self.running: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "OneNode":
        # munge refuses its socket and key in folders that others can write.
        munge = self.folder / "munge"
        munge.mkdir(parents=True, mode=0o755)
        (self.folder / "state").mkdir()
        (self.folder / "spool").mkdir()
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
        text = CONFIGURATION.format(
            folder=self.folder,
            host=socket.gethostname().split(".")[0],
            node=NODE,
            ports=_free_ports(2),
            cpus=os.cpu_count(),
            memory_mb=memory_mb,
        )
        (self.folder / "slurm.conf").write_text(text)
        # Snakemake's plugin does not pass SLURM_CONF on to srun in a job.
        srun = self.folder / "bin" / "srun"
        srun.parent.mkdir()
        srun.write_text(f'#!/bin/sh\nSLURM_CONF="{self.folder}/slurm.conf" exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        try:
            files = [f"--{name}={munge / name}" for name in ("socket", "log-file", "pid-file", "seed-file")]
            self._start("munged", "--foreground", "--force", f"--key-file={key}", *files)
            wait_for((munge / "socket").exists, "munge")
            self._start("slurmctld", "-D", "-c")
            self.start_node()
            self.wait_for_node("idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if "slurmctld" in self.running:
            subprocess.run(["scancel", "--user=root"], env=self.environment, check=False, capture_output=True, timeout=20)
            with suppress(TimeoutError):  # jobs would outlive their controller
                wait_for(lambda: not self.output_of("squeue", "--noheader"), "the jobs to end", seconds=20)
        for process in reversed(self.running.values()):
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start_node(self) -> None:
        self._start("slurmd", "-D", "-N", NODE)

    def kill_node(self) -> None:
        """Kills the node's daemon as a crash does; the jobs it started run until it is back."""
        self.running["slurmd"].send_signal(signal.SIGKILL)
        self.running["slurmd"].wait()

    def output_of(self, *command: str) -> str:
        """The output of a Slurm command."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def jobs(self, state: str) -> list[str]:
        return self.output_of("squeue", "--noheader", "--format=%i", f"--states={state}").split()

    def wait_for_node(self, *states: str) -> None:
        wait_for(
            lambda: self.output_of("sinfo", "--noheader", "--format=%t").split()[0].strip("*") in states, f"a node {states}"
        )

    def _start(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.out").open("ab") as log:
            self.running[program] = subprocess.Popen([program, *arguments], env=self.environment, stdout=log, stderr=log)


def wait_for(is_so: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Returns once ``is_so``; TimeoutError that names ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if is_so():
                return
        except (subprocess.CalledProcessError, IndexError):
            pass  # the controller is not up yet
        time.sleep(0.2)
    raise TimeoutError(f"waited {seconds:.0f} s in vain for {what}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports

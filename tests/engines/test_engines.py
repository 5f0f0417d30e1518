"""Tests tools/engines under the engines themselves: plain shell, GNU parallel, mpirun, and Slurm's daemons, which this
test starts in a folder of its own on the loopback interface and stops by their process ids. However a member is
interrupted, its checkpoint must have the same bytes, and its log the same lines, as if it had been trained without
interruption.

`make test-engines` runs it; `tools/deps.sh engines` installs the engines. If an engine is not installed, or a daemon
does not start here, the case is skipped with the reason.
"""
import contextlib
import ctypes
import glob
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ENGINES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/engines")
PLSTM = os.environ.get("PLSTM", os.path.join("build", "plstm"))
# A member takes about two seconds of one core and saves a checkpoint about ten times per second.
OPTIONS = ["--data", "synthetic", "--hidden", "48", "--epochs", "2", "--keep", "0.8", "--threads", "1", "--save-every", "0.002", "--quiet"]
SEEDS = "1 2 3 4"
LOOPBACK = "%08X" % int.from_bytes(socket.inet_aton("127.0.0.1"), sys.byteorder)  # as /proc/net/tcp writes it
TIME_LIMIT = 60  # seconds to wait for something that takes about one second on an idle machine


class Place:
    """A folder with the program and the engines' scripts; each engine trains into a folder of its own in it."""

    def __init__(self, folder):
        self.folder = folder
        self.interrupted = False  # set by a signal: running processes are then ended, not awaited
        os.chmod(folder, 0o711)  # munged refuses a socket that other users cannot reach
        shutil.copy(PLSTM, os.path.join(folder, "plstm"))
        shutil.copytree(ENGINES, os.path.join(folder, "engines"))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI_", "PMI", "SBATCH"))}
        self.environment.update(PLSTM=os.path.join(folder, "plstm"), ENGINES=os.path.join(folder, "engines"), LC_ALL="C")
        self.environment["PATH"] += os.pathsep + "/usr/sbin"  # the folder of the daemons, which some users do not have on PATH

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def start(self, *command, **options):
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, **options)

    def run(self, *command, status=0):
        child = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = child.communicate(timeout=150)
        assert child.returncode == status, (command, child.returncode, out[-500:], err[-500:])
        return out

    def members(self, engine):
        """Returns {seed: (bytes of the checkpoint, lines of the log without times)} of the complete members."""
        found = {}
        for mark in glob.glob(self.path(engine, "*.done")):
            name = mark.removesuffix(".done")
            with open(name + ".st", "rb") as f:
                weights = f.read()
            with open(name + ".jsonl", encoding="utf-8") as f:
                lines = [json.loads(line) for line in f]
            found[name.rsplit("-", 1)[1]] = weights, [{k: v for k, v in line.items()
                                                       if k not in ("words_per_s", "seconds")} for line in lines]
        return found

    def program_of(self, engine, seed):
        """Returns the process id of the plstm that trains a member, or None. Only this test uses the folder's name."""
        mine = os.fsencode(self.path("plstm")), os.fsencode(os.path.join(engine, f"seed-{seed}.st"))
        for process in glob.glob("/proc/[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                with open(process, "rb") as f:
                    words = f.read().split(b"\0")
                if words[0] == mine[0] and any(word.endswith(mine[1]) for word in words):
                    return int(process.split("/")[2])
        return None

    @contextlib.contextmanager
    def half_way(self, engine, seed):
        """Waits until a member has saved a checkpoint, stops its plstm by SIGSTOP and yields the process id; afterwards
        the process continues. So it cannot end before it is interrupted, even on a slow machine."""
        wait_for(f"a checkpoint of member {seed} of {engine}", lambda: os.path.exists(self.path(engine, f"seed-{seed}.st")))
        pid = wait_for(f"member {seed} of {engine}", lambda: self.program_of(engine, seed))
        os.kill(pid, signal.SIGSTOP)
        try:
            assert not os.path.exists(self.path(engine, f"seed-{seed}.done"))
            yield pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def kill(self, engine, seed):
        with self.half_way(engine, seed) as pid:
            os.kill(pid, signal.SIGKILL)


def left_running():
    """Returns the ids of this test's processes that outlived their parent; fork_under_reaper's process has become their
    parent."""
    reaper = os.getppid()
    with open(f"/proc/{reaper}/task/{reaper}/children", encoding="ascii") as f:
        return [int(pid) for pid in f.read().split() if int(pid) != os.getpid()]


def listening(pid):
    """Returns the addresses at which a process accepts connections, in hexadecimal as in /proc/net/tcp."""
    sockets = set()
    for name in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(name))
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as f:
            for line in list(f)[1:]:
                words = line.split()
                if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                    found.append(words[1].split(":")[0])
    return found


def wait_for(what, true, seconds=TIME_LIMIT):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


def needs(*commands):
    for command in commands:
        if not shutil.which(command, path=place.environment["PATH"]):
            raise tap.Skip(f"{command} is not installed; tools/deps.sh engines installs it")


def same_as_serial(engine):
    serial, found = place.members("serial"), place.members(engine)
    assert sorted(found) == SEEDS.split(), sorted(found)
    for seed, (weights, lines) in found.items():
        assert weights == serial[seed][0], f"the checkpoint of member {seed} of {engine} differs"
        assert lines == serial[seed][1], f"the log of member {seed} of {engine} differs"


# ---- the engines ----


def test_serial():
    """Trains the members with which the other cases are compared."""
    place.run("engines/members.sh", "serial", SEEDS, *OPTIONS)
    assert sorted(place.members("serial")) == SEEDS.split()


def test_shell_killed_and_stopped():
    first = place.start("engines/members.sh", "shell", "1 2", *OPTIONS, stdout=subprocess.DEVNULL)
    place.kill("shell", 1)
    with place.half_way("shell", 2):
        # Two queues over the same members share them: the second skips the members that the first is training.
        place.run("engines/members.sh", "shell", "2", *OPTIONS, status=75)
        first.terminate()
    assert first.wait(TIME_LIMIT) != 0
    assert not place.members("shell")
    place.run("engines/members.sh", "shell", SEEDS, *OPTIONS)
    same_as_serial("shell")


def test_parallel():
    needs("parallel")
    place.environment["JOBS"] = "2"
    stopped = place.start("engines/parallel.sh", "parallel", SEEDS, *OPTIONS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with place.half_way("parallel", 1):
        place.kill("parallel", 2)
        stopped.terminate()
    assert stopped.wait(TIME_LIMIT) != 0
    wait_for("the end of the stopped members", lambda: not any(place.program_of("parallel", seed) for seed in SEEDS.split()))
    place.run("engines/parallel.sh", "parallel", SEEDS, *OPTIONS)
    same_as_serial("parallel")


def test_mpirun():
    """mpirun is not a daemon, but it listens at every address while it runs, whatever its options; it uses the loopback
    interface to reach peers."""
    needs("mpirun")
    as_root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    mpirun = ["mpirun", *as_root, "--oversubscribe", "--mca", "oob_tcp_if_include", "lo", "-n", "2"]
    stopped = place.start(*mpirun, "engines/rank.sh", "mpirun", SEEDS, *OPTIONS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with place.half_way("mpirun", 2):
        place.kill("mpirun", 1)
        stopped.terminate()
    assert stopped.wait(TIME_LIMIT) != 0
    wait_for("the end of the stopped members", lambda: not any(place.program_of("mpirun", seed) for seed in SEEDS.split()))
    place.run(*mpirun, "engines/rank.sh", "mpirun", SEEDS, *OPTIONS)
    same_as_serial("mpirun")


# ---- Slurm ----

SLURM_CONF = """ClusterName=plstm
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4
PartitionName=main Nodes=localhost Default=YES State=UP
"""


def free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


class Daemons:
    """munged, slurmctld and slurmd of one node, only on the loopback interface."""

    def __init__(self):
        self.folder = place.path("cluster")
        self.started = []
        for name in ("", "state", "spool"):
            os.mkdir(os.path.join(self.folder, name))
        os.chmod(self.folder, 0o711)
        ctld_port, slurmd_port = free_ports(2)
        conf = os.path.join(self.folder, "slurm.conf")
        with open(conf, "w", encoding="ascii") as f:
            f.write(SLURM_CONF.format(folder=self.folder, user=pwd.getpwuid(os.geteuid()).pw_name, ctld_port=ctld_port,
                                      slurmd_port=slurmd_port))
        with open(os.open(os.path.join(self.folder, "munge.key"), os.O_WRONLY | os.O_CREAT, 0o400), "wb") as f:
            f.write(os.urandom(64))
        place.environment["SLURM_CONF"] = conf

    def start(self, name, *arguments):
        log = os.path.join(self.folder, name + ".out")
        with open(log, "wb") as out:
            self.started.append((name, log, place.start(name, *arguments, stdout=out, stderr=out)))

    def start_all(self):
        files = {option: os.path.join(self.folder, name) for option, name in (("key-file", "munge.key"), ("socket", "munge.socket"),
                 ("pid-file", "munged.pid"), ("log-file", "munged.log"), ("seed-file", "munge.seed"))}
        self.start("munged", "--foreground", *(f"--{option}={path}" for option, path in files.items()))
        self.wait("munged", lambda: os.path.exists(files["socket"]))
        self.start("slurmctld", "-D")
        self.wait("slurmctld", lambda: self.says("scontrol", "ping"))
        self.start("slurmd", "-D", "-N", "localhost")
        self.wait("slurmd", lambda: self.says("sinfo", "--noheader", "--format=%t") == "idle")
        for name, _, child in self.started:
            elsewhere = [address for address in listening(child.pid) if address != LOOPBACK]
            assert not elsewhere, f"{name} listens at {elsewhere}"
        assert listening(self.started[-1][2].pid), "no address of slurmd was found"

    @staticmethod
    def says(*command):
        done = subprocess.run(command, env=place.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True,
                              timeout=30, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def wait(self, name, ready):
        """Waits until a daemon answers; if it does not, skips the case with the daemon's message."""
        end = time.monotonic() + 20
        while time.monotonic() < end and self.started[-1][2].poll() is None:
            if ready():
                return
            time.sleep(0.1)
        with open(self.started[-1][1], encoding="utf-8", errors="replace") as f:
            words = [line.strip() for line in f if line.strip()] or ["nothing"]
        raise tap.Skip(f"{name} does not start here; its last line: {words[-1]}")

    def stop(self):
        if len(self.started) == 3 and not place.interrupted:
            self.says("scancel", "--user", str(os.geteuid()))
            with contextlib.suppress(AssertionError):
                wait_for("the end of all jobs", lambda: self.says("squeue", "--noheader") == "", 15)
        for _, _, child in reversed(self.started):
            child.terminate()
        for _, _, child in self.started:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def submit(array):
    return place.run("sbatch", "--parsable", f"--array={array}", "--output=slurm-%a.txt", "engines/ensemble.sbatch",
                     "slurm", *OPTIONS).strip()


def insist(*command):
    """Repeats a command while Slurm refuses it ("try again later") because the job is changing its state."""
    wait_for(" ".join(command), lambda: Daemons.says(*command) is not None)


def queue():
    return place.run("squeue", "--noheader", "--array", "--format=%K %t").split("\n")


def queue_is_empty():
    return queue() == [""]


def test_slurm_array():
    needs("munged", "slurmctld", "slurmd", "sbatch")
    daemons = Daemons()
    try:
        daemons.start_all()
        job = submit("1-4")
        # Member 1 gets the signal that Slurm sends before the time limit, member 2 is killed, member 3 cancelled, member 4 undisturbed.
        with place.half_way("slurm", 1), place.half_way("slurm", 2) as second, place.half_way("slurm", 3):
            insist("scancel", "--signal=USR1", "--batch", f"{job}_1")
            os.kill(second, signal.SIGKILL)
            insist("scancel", f"{job}_3")
            wait_for("the failure of task 2", lambda: not any(line.startswith("2 ") for line in queue()))
            assert "2" not in place.members("slurm")
            insist("scontrol", "requeue", f"{job}_2")
        wait_for("the end of task 3", lambda: not any(line.startswith("3 ") for line in queue()))
        assert "3" not in place.members("slurm")
        submit("3")
        wait_for("the end of all tasks", queue_is_empty, 90)
        same_as_serial("slurm")
        with open(place.path("slurm-1.txt"), encoding="utf-8") as f:
            assert "the task is requeued" in f.read()

        logs = sorted(glob.glob(place.path("slurm", "*.jsonl")))
        before = [os.stat(log).st_mtime_ns for log in logs]
        submit("1-4")
        wait_for("the end of the array that was submitted again", queue_is_empty)
        assert [os.stat(log).st_mtime_ns for log in logs] == before, "a complete member was trained again"
    finally:
        daemons.stop()


def end_left_running():
    """Ends the remaining processes, repeatedly: when slurmstepd or mpirun ends, the processes that it started are
    orphaned in turn."""
    for _ in range(20):
        if not left_running():
            break
        for pid in left_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def test_nothing_is_left_running():
    wait_for("the end of every process", lambda: not left_running(), 20)


def interrupted(number, _frame):
    """Ends the tests and everything that they started; a second signal, such as the one that the reaper passes on, is ignored."""
    place.interrupted = True
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def fork_under_reaper():
    """Returns in a child process. This process becomes the parent of the orphans of the child's children (slurmstepd, a member whose script
    was killed), waits for each of them, and exits with the child's status."""
    tests = os.fork()
    if tests == 0:
        return
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    for number in SIGNALS:
        signal.signal(number, lambda number, _: os.kill(tests, number))
    pid = status = None
    while pid != tests:
        pid, status = os.wait()
    os._exit(abs(os.waitstatus_to_exitcode(status)))


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

if __name__ == "__main__":
    fork_under_reaper()
    with tempfile.TemporaryDirectory(prefix="plstm-engines-") as base:
        place = Place(base)
        for number in SIGNALS:
            signal.signal(number, interrupted)
        try:
            tap.main(globals())
        finally:
            end_left_running()

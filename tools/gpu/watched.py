"""Runs commands that may hang, crash or never end: each is a process group with a limit, and a process that cannot be killed is left
behind."""
import dataclasses
import os
import signal
import subprocess
import tempfile
import time

KILLED = 5.0  # seconds to wait for a killed process; one that waits in the driver may never end
running = set()


@dataclasses.dataclass
class Done:
    status: int
    seconds: float
    timed_out: bool = False
    left_behind: bool = False


class Child:
    """A started command; its output goes to a file."""

    def __init__(self, command, path, append=False, environment=None):
        self.begin = time.monotonic()
        self.process = None
        with open(path, "ab" if append else "wb") as out:
            try:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment,
                                                start_new_session=True)
            except OSError as fault:
                out.write(f"{command[0]} cannot be run: {fault.strerror or fault}\n".encode())
        if self.process:
            running.add(self)

    def poll(self):
        return self.process.poll() if self.process else 127

    def wait(self, limit):
        """Returns the exit status, negative for a signal as in subprocess, or None if the limit came first."""
        if not self.process:
            return 127
        try:
            return self.process.wait(max(limit, 0))
        except subprocess.TimeoutExpired:
            return None

    def signal_group(self, number):
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def end(self, grace=0.0):
        """Ends the process and everything that it started. Returns False if it is still there."""
        if not self.process:
            return True
        if grace and self.poll() is None:
            self.signal_group(signal.SIGTERM)
            self.wait(grace)
        self.signal_group(signal.SIGKILL)
        gone = self.wait(KILLED) is not None
        running.discard(self)
        return gone

    def wait_or_kill(self, limit):
        """Returns whether the process ended with status 0 within the limit."""
        status = self.wait(limit)
        self.end()
        return status == 0


def start(command, path, **options):
    return Child(command, path, **options)


def run(command, path, limit, grace=0.0, append=False, environment=None):
    child = Child(command, path, append=append, environment=environment)
    status = child.wait(limit)
    gone = child.end(grace if status is None else 0.0)
    if status is None:  # after TERM it may exit with 0, but it still reached the limit
        return Done(124, time.monotonic() - child.begin, True, not gone)
    return Done(status if status >= 0 else 128 - status, time.monotonic() - child.begin)


def output(command, limit):
    """Returns a command's standard output and error, or None if it fails or takes longer."""
    with tempfile.NamedTemporaryFile() as said:
        if run(command, said.name, limit).status:
            return None
        return said.read().decode("utf-8", "replace")


def end_all(but=None):
    for child in list(running):
        if child is not but:
            child.end()

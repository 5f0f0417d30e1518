"""Reads the data: files under profiles/ of one working tree."""
import glob
import json
import math
import os


class Failure(Exception):
    """An error whose text is a sentence for the user."""


class Data:
    """The folder profiles/ of one working tree."""

    def __init__(self, root):
        self.root = os.path.join(root, "profiles")

    def find(self, pattern):
        """Returns the sorted paths that match, relative to profiles/."""
        return sorted(os.path.relpath(p, self.root) for p in glob.glob(os.path.join(self.root, pattern)))

    def text(self, name):
        with open(os.path.join(self.root, name), encoding="utf-8") as f:
            return f.read()

    def json(self, name):
        try:
            return json.loads(self.text(name))
        except ValueError as fault:
            raise Failure(f"profiles/{name} is not JSON: {fault}") from fault

    def lines(self, name):
        try:
            return [json.loads(line) for line in self.text(name).splitlines()]
        except ValueError as fault:
            raise Failure(f"profiles/{name} has a line that is not JSON: {fault}") from fault

    def hardware(self, name):
        """Returns the name of the machine in whose folder a file is."""
        machine = os.path.join(os.path.dirname(name), "machine.json")
        if not os.path.exists(os.path.join(self.root, machine)):
            raise Failure(f"profiles/{machine} is missing; it must name the machine on which profiles/{name} was measured")
        return self.json(machine)["hardware"]


class Run:
    """A log of plstm."""

    def __init__(self, data, name):
        events = data.lines(name)
        self.name, self.hardware = name, data.hardware(name)
        runs = [e for e in events if e["event"] == "run"]
        if len(runs) != 1:
            raise Failure(f"profiles/{name} has {len(runs)} run lines; expected one")
        self.run = runs[0]
        self.epochs = [e for e in events if e["event"] == "epoch"]
        self.test = next((e for e in events if e["event"] == "test"), None)
        self.last_step = events[-1] if events[-1]["event"] == "step" else None
        steps = [e for e in events if e["event"] == "step" and e["words_per_s"]]
        seconds = sum(e["tokens"] / e["words_per_s"] for e in steps)
        self.words_per_s = sum(e["tokens"] for e in steps) / seconds if seconds else math.nan

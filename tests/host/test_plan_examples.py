"""Checks that the examples of `plstm plan` in the documents print what this program prints, and that every such command runs."""
import os
import re
import shlex
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))
import tap  # noqa: E402

ROOT = os.path.join(HERE, "../..")
PLSTM = os.environ.get("PLSTM", "build/plstm")
DOCUMENTS = ("README.md", "host/README.md", "kernels/README.md", "kernels/PERFORMANCE.md")


def text_of(document):
    with open(os.path.join(ROOT, document), encoding="utf-8") as f:
        return f.read()


def examples(text):
    """Returns [(options, lines)] of the code blocks that show a call of `plstm plan` after a prompt, with the output
    below it."""
    found = re.findall(r"^    \$ build/plstm plan\b(.*)\n((?:    (?!\$).*\n)+)", text, re.MULTILINE)
    return [(options.strip(), [line[4:] for line in output.splitlines()]) for options, output in found]


def calls(text):
    """Returns the options of every call of `plstm plan` in code, with or without output."""
    return [options.strip() for options in re.findall(r"build/plstm plan((?: --?[a-z]+(?:[= ][\w./,=]+)?)+)", text)]


def plan(options):
    if not os.path.exists(PLSTM):
        raise tap.Skip(f"{PLSTM} is not built")
    environment = {name: value for name, value in os.environ.items() if name != "PLSTM_PLAN"}
    done = subprocess.run([PLSTM, "plan", *shlex.split(options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment, timeout=60)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_examples_are_the_output_of_this_program():
    shown = [(document, *example) for document in DOCUMENTS for example in examples(text_of(document))]
    assert shown, "no document has an example"
    for document, options, lines in shown:
        status, printed, said = plan(options)
        assert status == 0, (document, options, said)
        assert lines == printed, f"{document}: plstm plan {options} prints:\n" + "\n".join(printed)


def test_every_call_in_the_documents_runs():
    found = [(document, options) for document in DOCUMENTS for options in calls(text_of(document))]
    assert any(document == "README.md" for document, _ in found), found
    for document, options in found:
        status, _, said = plan(options)
        assert status == 0, (document, options, said)


def test_the_readers_of_examples():
    text = "words\n\n    $ build/plstm plan --device K20\n    one\n      two\n    $ build/plstm variants\n    x\n\nor `build/plstm plan --json`\n"
    assert examples(text) == [("--device K20", ["one", "  two"])], examples(text)
    assert calls(text) == ["--device K20", "--json"], calls(text)


tap.main(globals())

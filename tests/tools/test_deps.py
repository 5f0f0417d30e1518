"""Tests tools/deps.sh with stand-ins for dpkg-query, apt-get and sudo: what it installs, when it stops, when it uses no network."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..", "tools", "deps.sh")
TOOLS = ("sh", "id", "tr", "cat", "ls", "env", "true", "awk", "sed", "tee")  # commands of the real system; PATH has no others


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)


COMMANDS = ("gcc", "g++", "make", "python3", "gnuplot", "git", "clang", "clang-format", "pip3", "chromium")
K20 = ["nvidia-cuda-toolkit", "g++-11"]


def run(*arguments, missing=(), uid=0, sudo=None, debian=True, commands=COMMANDS, update=0, unknown=(), version="11.8.89~11.8.0-5",
        sources=None, release="ID=debian\nVERSION_CODENAME=bookworm\n"):
    """Returns (status, standard error, apt-get's command lines). sources is {file under /etc/apt: text} and is updated with the script's
    changes."""
    with tempfile.TemporaryDirectory() as folder:
        etc = os.path.join(folder, "etc")
        os.makedirs(os.path.join(etc, "apt", "sources.list.d"))
        with open(os.path.join(etc, "os-release"), "w", encoding="utf-8") as f:
            f.write(release)
        for name, text in (sources or {}).items():
            with open(os.path.join(etc, "apt", name), "w", encoding="utf-8") as f:
                f.write(text)
        calls = os.path.join(folder, "calls")
        path = os.path.join(folder, "bin")
        os.mkdir(path)
        for tool in TOOLS:
            real = next(os.path.join(d, tool) for d in ("/bin", "/usr/bin") if os.path.exists(os.path.join(d, tool)))
            os.symlink(real, os.path.join(path, tool))
        os.remove(os.path.join(path, "id"))
        write(os.path.join(path, "id"), f"echo {uid}\n")
        for command in commands:
            write(os.path.join(path, command), "exit 0\n")
        if debian:
            absent = "|".join(missing) or "none-at-all"
            write(os.path.join(path, "dpkg-query"), f'for last; do :; done\ncase $last in {absent}) exit 1 ;; esac\nprintf installed\n')
            write(os.path.join(path, "apt-get"), f'echo "$DEBIAN_FRONTEND $*" >> {calls}\ncase "$*" in *update*) exit {update} ;; esac\n')
            no = "|".join(unknown) or "none-at-all"
            write(os.path.join(path, "apt-cache"), f'for last; do :; done\ncase $last in {no}) exit 100 ;; esac\necho "Package: $last"\n'
                  + (f'echo "Version: {version}"\n' if version else ""))
        if sudo is not None:
            write(os.path.join(path, "sudo"), f'[ {sudo} = yes ] || exit 1\necho sudo >> {calls}.sudo\nshift\nexec "$@"\n')
        done = subprocess.run([os.path.join(path, "sh"), SCRIPT, *arguments], env={"PATH": path, "DEPS_ETC": etc},
                              stderr=subprocess.PIPE, text=True,
                              timeout=30)
        for name in sources or {}:
            with open(os.path.join(etc, "apt", name), encoding="utf-8") as f:
                sources[name] = f.read()
        called = []
        if os.path.exists(calls):
            with open(calls, encoding="utf-8") as f:
                called = f.read().splitlines()
        return done.returncode, done.stderr, called


def test_nothing_missing_uses_no_network():
    for which in ([], ["build"], ["ci"], ["engines"], ["k20"]):
        sources = {"sources.list": "deb http://example/debian bookworm main\n"}
        status, said, called = run(*which, commands=(*COMMANDS, "g++-11"), sources=sources)
        assert sources["sources.list"].endswith("bookworm main\n"), sources
        assert (status, said, called) == (0, "", []), (status, said, called)


def test_root_installs_what_is_missing_and_only_that():
    status, said, called = run(missing=["libjansson-dev", "libmd-dev"])
    assert status == 0, said
    assert len(called) == 2 and called[0].endswith("update"), called
    assert called[1].endswith("install --no-install-recommends libjansson-dev libmd-dev"), called
    assert all(line.startswith("noninteractive ") for line in called), called


def test_an_existing_command_is_not_installed_again():
    status, _, called = run(missing=["gnuplot-nox"])
    assert status == 0 and called == [], called
    status, _, called = run(missing=["gnuplot-nox"], commands=("gcc", "g++", "make", "python3"))
    assert status == 0 and called[-1].endswith("gnuplot-nox"), called


def test_sudo_without_a_password_is_used():
    status, _, called = run(missing=["libmd-dev"], uid=1000, sudo="yes")
    assert status == 0 and called[-1].endswith("libmd-dev"), called


def test_without_rights_the_command_is_printed():
    for sudo in (None, "no"):
        status, said, called = run(missing=["libmd-dev"], uid=1000, sudo=sudo)
        assert status == 1 and called == [], (status, called)
        assert "apt-get install --no-install-recommends libmd-dev" in said, said


def test_a_failed_update_does_not_stop_it():
    status, _, called = run(missing=["libmd-dev"], update=100)
    assert status == 0 and called[-1].endswith("libmd-dev"), called


def test_ci_takes_the_name_that_this_release_has():
    names = ["libclang-rt-dev", "libclang-rt-18-dev", "libclang-common-14-dev"]
    status, _, called = run("ci", missing=names, unknown=["libclang-rt-dev"])
    assert status == 0 and called[-1].endswith("libclang-rt-18-dev"), called
    status, _, called = run("ci", missing=names[:2])
    assert status == 0 and called == [], called


def test_engines_are_optional():
    names = ["slurmctld", "slurmd", "parallel"]
    status, said, called = run("engines", missing=names)
    assert status == 0 and [line.rsplit(" ", 1)[1] for line in called[1:]] == names, called
    status, said, called = run("engines", missing=names, unknown=["slurmd"])
    assert status == 0 and not any(line.endswith(" slurmd") for line in called), called


def test_k20_adds_the_components_of_its_packages():
    old = """# the main archive
deb http://example/debian bookworm main
deb\t[signed-by=/a.gpg arch=amd64]\thttp://example/security\tbookworm-security\tmain non-free-firmware
deb http://example/debian bookworm-updates main contrib non-free
deb http://example/other stable main
"""
    new = """Types: deb
# http://example/snapshot main
URIs: http://example/debian
Suites: bookworm bookworm-updates
Components: main non-free-firmware
Signed-By: /a.gpg

Types: deb
URIs: http://example/other
Suites: trixie
Components: main
"""
    sources = {"sources.list": old, "sources.list.d/debian.sources": new,
               "sources.list.d/other.list": "deb http://example/x\tnodistro main\n"}
    before = dict(sources)
    status, said, called = run("k20", missing=K20, sources=sources)
    assert status == 0, said
    assert called[0].endswith("update") and called[1].endswith("--no-install-recommends nvidia-cuda-toolkit g++-11"), called
    lines = sources["sources.list"].splitlines()
    assert lines[1] == "deb http://example/debian bookworm main contrib non-free", lines
    assert lines[2].endswith("bookworm-security main contrib non-free non-free-firmware"), lines
    assert lines[3:] == old.splitlines()[3:] and lines[0] == "# the main archive", lines
    want = new.replace("main non-free-firmware", "main contrib non-free non-free-firmware")
    assert sources["sources.list.d/debian.sources"] == want, sources
    assert sources["sources.list.d/other.list"] == before["sources.list.d/other.list"], sources
    again = dict(sources)
    status, said, _ = run("k20", missing=K20, sources=again)
    assert status == 0 and again == sources and "adding the components" not in said, said


def test_k20_needs_a_release_that_has_cuda_11():
    sources = {"sources.list": "deb http://example/ubuntu noble main universe\n"}
    for version in ("12.0.140~12.0.1-4", None):
        status, said, called = run("k20", missing=K20, sources=sources, version=version, release='ID=ubuntu\nVERSION_CODENAME=noble\n')
        assert status == 1 and "sm_35 needs CUDA 11.8" in said and "K20_CUDA" in said, said
        assert len(called) == 1 and called[0].endswith("update"), called
        assert sources["sources.list"].endswith("main universe\n"), sources


def test_k20_without_rights_says_what_to_do():
    status, said, called = run("k20", missing=K20, uid=1000)
    assert status == 1 and called == [] and "contrib and non-free" in said and "nvidia-cuda-toolkit" in said, said


def test_another_system_gets_a_list_of_packages():
    status, said, called = run(debian=False)
    assert status == 0 and "OpenBLAS" in said and "jansson" in said and called == [], said


def test_unknown_word():
    status, said, _ = run("everything")
    assert status == 2 and "build|ci|engines|k20" in said, said


tap.main(globals())

"""Checks that every citation resolves: a cited section ("SPEC 4", "PERFORMANCE 1") is a heading of that document, and a link leads to a
file."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
PAPERS = {"SPEC": "host/SPEC.md", "TASKS": "host/TASKS.md", "PERFORMANCE": "kernels/PERFORMANCE.md"}
# Names in capitals that a document could have but none here has, so a citation of one leads nowhere.
NO_PAPERS = ("CRITICAL_PATH", "ARCHITECTURE", "EMULATION", "STYLE", "DEMO")
SOURCES = (".c", ".h", ".cpp", ".cu", ".cuh", ".py", ".sh", ".mk", ".md", ".def")
CITED = re.compile(r"\b(" + "|".join(PAPERS) + r")(?:\.md)?,?(?: sections?)? (\d+(?:\.\d+)?)((?:(?:, | and | or )\d+(?:\.\d+)?)*)\b")


def files(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not re.match(r"\.git$|build|gpu-bundle$|data$|fixtures$", f) or f == "data"
                      and os.path.basename(folder) == "host"]
        for name in names:
            if name.endswith(SOURCES) or name in ("Makefile", "run"):
                yield os.path.join(folder, name)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def sections(text):
    """Returns the numbers of headings such as "## 4. Data"."""
    return set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", text, flags=re.MULTILINE))


def unresolved(text, papers):
    """Returns one sentence per citation in `text` that leads nowhere; papers: {name: its sections}."""
    found = []
    for paper, first, rest in CITED.findall(re.sub(r"\n[ *#/]*", " ", text)):
        for number in [first, *re.findall(r"\d+(?:\.\d+)?", rest)]:
            if number not in papers.get(paper, ()):
                found.append(f"{paper} {number} is not there")
    return found + [f"{name} is no page of this tree" for name in NO_PAPERS if re.search(rf"\b{name}(\.md\b| \d)", text)]


def broken_links(path, text):
    where = os.path.dirname(path)
    return [target for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
            if not re.match(r"\w+:", target) and not os.path.exists(os.path.join(where, target))]


def tree_papers():
    return {name: sections(read(os.path.join(ROOT, path))) for name, path in PAPERS.items() if os.path.exists(os.path.join(ROOT, path))}


def test_papers_are_there():
    papers = tree_papers()
    assert papers["SPEC"] == {str(n)
                              for n in range(1,
                                             9)} and papers["TASKS"] == {str(n)
                                                                         for n in range(1,
                                                                                        6)} and len(
                                                                                            papers["PERFORMANCE"]) >= 9, papers


def test_every_citation_resolves():
    papers, cited = tree_papers(), 0
    for path in files(ROOT):
        if os.path.samefile(path, __file__):
            continue
        text = read(path)
        cited += len(CITED.findall(text))
        assert not unresolved(text, papers), f"{os.path.relpath(path, ROOT)}: {unresolved(text, papers)}"
    assert cited > 60, f"only {cited} citations were found"


def test_every_link_leads_to_a_file():
    for path in files(ROOT):
        if path.endswith(".md"):
            assert not broken_links(path, read(path)), f"{os.path.relpath(path, ROOT)}: {broken_links(path, read(path))}"


def test_a_wrong_citation_is_found():
    papers = {"SPEC": {"1", "2", "4"}}
    assert not unresolved("SPEC 4, SPEC 1 and 2; SPEC.md section 2; this SPEC", papers)
    assert unresolved("SPEC 3", papers) == ["SPEC 3 is not there"]
    assert unresolved("SPEC 1 and 3", papers) == ["SPEC 3 is not there"]
    assert unresolved("/* as SPEC\n * 9 has it */", papers) == ["SPEC 9 is not there"]
    assert unresolved("TASKS 2", papers) == ["TASKS 2 is not there"]
    assert unresolved("see CRITICAL_PATH 3", papers) == ["CRITICAL_PATH is no page of this tree"]
    assert broken_links("a/b.md", "[x](nowhere.md) [y](https://example.org)") == ["nowhere.md"]


tap.main(globals())

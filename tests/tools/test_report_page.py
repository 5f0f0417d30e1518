"""Tests tools/results/html_page.py: the page has the content of RESULTS.md and loads nothing; in headless Chromium its tables sort and
filter, and it follows the reader's light or dark setting."""
import html.parser
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
SAMPLE = os.path.join(ROOT, "tests", "fixtures", "gpu_sample")
sys.path.insert(0, os.path.join(ROOT, "tools/results"))
import html_page  # noqa: E402

MARKDOWN = """# A page

Words with `code`, *emphasis*, **weight**, a [link](profiles/x.json) and 3 < 4.
<!-- begin:one -->

| name | us | note |
| :-- | --: | :-- |
| `b` | 10.5 ± 0.2 | first |
| a | 9 |  |
| c | not yet measured | third |
| d | 1.2e+02 | fourth first |

<!-- end:one -->

## Second, with a figure

- an item
  of two lines
- another

    indented code
    of two lines

![A drawing](profiles/figures/a.svg)
![Another](profiles/figures/b.svg)
"""
SVG = '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="10" height="10"><defs><circle id="dot" r="2"/></defs><use ' \
    'xlink:href=\'#dot\'/></svg>\n<!-- drawn -->\n'


class Document(html.parser.HTMLParser):
    """Parses a page: tables as lists of rows of cells, ids, whether each row is hidden, and all references."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tables, self.ids, self.references, self.tags, self.cell = {}, [], [], [], None
        self.table = self.sorts = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        self.references += [found[name] for name in ("src", "href", "xlink:href", "action", "data", "srcset") if name in found]
        if tag == "table":
            self.table = self.tables.setdefault(found["id"], {"rows": [], "hidden": [], "sort": None})
        elif tag == "tr" and self.table is not None:
            self.table["rows"].append([])
            self.table["hidden"].append("hidden" in found)
        elif tag in ("td", "th") and self.table is not None:
            self.cell = ""
            if "aria-sort" in found:
                self.table["sort"] = (len(self.table["rows"][-1]), found["aria-sort"])

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self.cell is not None:
            self.table["rows"][-1].append(self.cell.strip())
            self.cell = None
        elif tag == "table":
            self.table = None

    def column(self, table, number, shown=True):
        """Returns the cells of the visible rows of the body."""
        found = self.tables[table]
        return [row[number] for row, hidden in list(zip(found["rows"], found["hidden"]))[1:] if not (hidden and shown)]


def sample_page():
    return html_page.page(MARKDOWN, lambda path: SVG, lambda target: "../" + target)


def report(folder, root=ROOT):
    target = os.path.join(folder, "report.html")
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tools/results.py"), "--root", root, "--html", target],
                          stderr=subprocess.PIPE, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    with open(target, encoding="utf-8") as f:
        return target, f.read()


# ---- without a browser ----


def test_markdown_becomes_a_page():
    text = sample_page()
    for part in ("<title>A page</title>", "<code>code</code>", "<em>emphasis</em>", "<strong>weight</strong>",
                 '<a href="../profiles/x.json">link</a>',
                 "3 &lt; 4", '<h2 id="second-with-a-figure">', "<li>an item of two lines</li>",
                 "<pre><code>indented code\nof two lines</code></pre>",
                 'aria-label="A drawing"', 'id="figure-1-dot"', "'#figure-1-dot'", 'id="figure-2-dot"', '<a href="#second-with-a-figure">'):
        assert part in text, part
    assert "begin:one" not in text and "<?xml" not in text
    page = Document(text)
    assert page.tables["a-page-1"]["rows"] == [["name", "us", "note"], ["b", "10.5 ± 0.2", "first"], ["a", "9", ""],
                                               ["c", "not yet measured", "third"],
                                               ["d", "1.2e+02", "fourth first"]]
    assert len(page.ids) == len(set(page.ids))


def test_markup_in_data_is_text():
    text = html_page.page("| a |\n| :-- |\n| <script>x</script> `<b>` [u](\"><i>) |\n", lambda path: SVG)
    body = text[text.index("<main>"):text.index("</main>")]
    assert "<script" not in body and "<b>" not in body and "<i>" not in body, body


def test_the_report_has_every_table_and_loads_nothing():
    with tempfile.TemporaryDirectory() as folder:
        _, text = report(folder)
    page = Document(text)
    with open(os.path.join(ROOT, "RESULTS.md"), encoding="utf-8") as f:
        markdown = f.read()
    rows = [line for line in markdown.splitlines() if line.startswith("| ") and not line.startswith("| :--")]
    ours = [row for table in page.tables.values() for row in table["rows"]]
    assert len(ours) == len(rows) and len(page.tables) == markdown.count("\n| :--") > 3, (len(ours), len(rows))
    for line, row in zip(rows, ours):
        for ours_cell, cell in zip(row, line.strip().strip("|").split("|")):
            plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", cell).replace("`", "").strip()
            assert ours_cell == plain, (ours_cell, plain)
    assert page.tags.count("svg") == markdown.count("![") > 2
    assert len(page.ids) == len(set(page.ids)), sorted(i for i in page.ids if page.ids.count(i) > 1)
    # There are links to follow, but the page fetches nothing.
    fetched = [r for r in page.references
               if not (r.startswith(("#", "data:,")) or re.match(r"https?://|\.\./|[\w.-]+/", r)
                       and f'<a href="{r}"' in text)]
    assert not fetched and "url(http" not in text and "@import" not in text and not set(page.tags) & {"img", "iframe",
                                                                                                      "object",
                                                                                                      "embed"}, fetched
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text


def test_the_report_needs_no_fresh_page():
    with tempfile.TemporaryDirectory() as folder:
        tree = os.path.join(folder, "tree")
        os.makedirs(os.path.join(tree, "profiles"))
        shutil.copytree(os.path.join(ROOT, "profiles", "cpu"), os.path.join(tree, "profiles", "cpu"))
        shutil.copy(os.path.join(ROOT, "RESULTS.md"), tree)
        if not shutil.which("gnuplot"):
            raise tap.Skip("gnuplot is not here")
        _, text = report(folder, tree)
        assert text.count("<svg") > 2 and not os.path.exists(os.path.join(tree, "profiles", "figures"))


# ---- in Chromium ----


def chromium(folder, target, *options):
    """Returns (standard output, lines of the console)."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        raise tap.Skip("Chromium is not here; tools/deps.sh ci installs it")
    command = [program, "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
               "--disable-background-networking", "--disable-component-update",
               "--disable-sync", "--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
               f"--user-data-dir={os.path.join(folder, 'browser')}", *(["--no-sandbox"] if os.geteuid() == 0 else []),
               *options, "file://" + target]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, said
    return done.stdout.decode(), [line for line in said.splitlines() if "CONSOLE" in line]


def written(folder, text, name="page.html"):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def test_the_report_in_a_browser():
    with tempfile.TemporaryDirectory() as folder:
        target, text = report(folder)
        dom, console = chromium(folder, target, "--dump-dom")
    assert not console, console
    before, page = Document(text), Document(dom)
    assert {name: table["rows"] for name, table in page.tables.items()} == {name: table["rows"] for name, table in before.tables.items()}
    counts = re.findall(r'<span class="count">([^<]*)</span>', dom)
    assert counts == [f"{len(table['rows']) - 1} rows" for table in page.tables.values()], counts


def test_a_view_in_the_address():
    with tempfile.TemporaryDirectory() as folder:
        target = written(folder, sample_page())
        dom, console = chromium(folder, target + "#table=a-page-1&sort=1&order=descending&filter=f", "--dump-dom")
    page = Document(dom)
    # "f" occurs in first and fourth; 120 is more than 10.5, and a row without a number comes last.
    assert page.column("a-page-1", 0, shown=False) == ["d", "b", "a", "c"] and page.column("a-page-1", 0) == ["d", "b"], page.tables
    assert page.tables["a-page-1"]["sort"] == (1, "descending") and "2 of 4 rows" in dom and not console, console


CLICKS = """<img src="http://example.invalid/x.png" alt="">
<script>
const shown = [];
const note = () => shown.push([...document.querySelectorAll('tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent).join(''));
const heads = document.querySelectorAll('th button'), input = document.querySelector('input');
for (const at of [1, 1, 0, 0, 2]) { heads[at].click(); note(); }
input.value = 'FIRST fourth'; input.dispatchEvent(new Event('input')); note();
document.title = shown.join(' ') + ' ' + location.hash;
</script>
</body>"""


def test_sorting_and_filtering():
    with tempfile.TemporaryDirectory() as folder:
        target = written(folder, sample_page().replace("</body>", CLICKS))
        dom, console = chromium(folder, target, "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", dom)[1].replace("&amp;", "&")
    # By us: largest first, then smallest first, a row without a number always last. By name: both orders. By note: its empty cell last.
    assert title == "dbac abdc abcd dcba bdca d #table=a-page-1&sort=2&order=ascending&filter=FIRST+fourth", title
    assert console and all("Content Security Policy" in line for line in console), console  # the policy blocks and reports any request


def brightness(png):
    """Returns the mean of all samples of an 8-bit PNG, 0 to 255."""
    data, at, packed, width, channels = png, 8, b"", 0, 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, _, depth, colour = struct.unpack(">IIBB", body[:10])
            channels = {2: 3, 6: 4}[colour]
            assert depth == 8
        elif kind == b"IDAT":
            packed += body
        at += size + 12
    plain, stride = zlib.decompress(packed), width * channels
    last, total = bytearray(stride), []
    for row in range(len(plain) // (stride + 1)):
        how, line = plain[row * (stride + 1)], bytearray(plain[row * (stride + 1) + 1:(row + 1) * (stride + 1)])
        for i in range(stride):
            left, up, corner = line[i - channels] if i >= channels else 0, last[i], last[i - channels] if i >= channels else 0
            near = min((abs(up - corner), 0, left), (abs(left - corner), 1, up), (abs(left + up - 2 * corner), 2, corner))[2]
            line[i] = (line[i] + (0, left, up, (left + up) // 2, near)[how]) & 255
        total.append(statistics.fmean(line[i] for i in range(stride) if channels == 3 or i % 4 != 3))
        last = line
    return statistics.fmean(total)


def test_light_and_dark():
    with tempfile.TemporaryDirectory() as folder:
        target, seen = written(folder, sample_page()), {}
        for name, number in (("dark", 0), ("light", 1)):
            shot = os.path.join(folder, name + ".png")
            chromium(folder, target, "--window-size=200,200", f"--blink-settings=preferredColorScheme={number}", f"--screenshot={shot}")
            with open(shot, "rb") as f:
                seen[name] = brightness(f.read())
    assert seen["dark"] < 80 and seen["light"] > 170, seen


tap.main(globals())

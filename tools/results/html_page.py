"""Converts RESULTS.md into one self-contained HTML page: the same text, tables that sort and filter, inline figures, light and dark. The
page loads no script, style, font or picture from elsewhere, which its Content-Security-Policy also forbids.

The converter supports the Markdown of RESULTS.md: headings, paragraphs, lists, tables, indented code, SVG pictures, links, code and
emphasis. The fragment of the address has the state of a table, so that a view can be shared:
#table=variants-1&sort=5&order=descending&filter=reg
"""
import html
import re

STYLE = """
:root {
  color-scheme: light dark;
  --text: #1c1e21; --dim: #5b626b; --back: #ffffff; --panel: #f4f5f7; --line: #d5d8dd; --link: #0b5cad; --mark: #fff3c4;
}
@media (prefers-color-scheme: dark) {
  :root { --text: #e3e5e8; --dim: #9aa2ac; --back: #16181b; --panel: #202327; --line: #3a3f45; --link: #7db7f2; --mark: #4a4220; }
  figure svg { filter: invert(1) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0; color: var(--text); background: var(--back); font: 15px/1.5 system-ui, sans-serif; }
main, nav { max-width: 1400px; margin: 0 auto; padding: 0 20px; }
nav { padding-top: 14px; font-size: 14px; }
nav a { margin-right: 16px; white-space: nowrap; }
a { color: var(--link); }
h1 { margin: 12px 0; } h2 { margin: 36px 0 8px; padding-top: 8px; border-top: 1px solid var(--line); }
p, li { max-width: 110ch; }
code, pre { font: 13px ui-monospace, monospace; background: var(--panel); border-radius: 3px; }
code { padding: 1px 4px; } pre { padding: 10px; overflow-x: auto; } pre code { padding: 0; }
figure { margin: 16px 0; } figure svg { max-width: 100%; height: auto; } figcaption { color: var(--dim); font-size: 13px; }
.table { margin: 14px 0; }
.tools { display: flex; gap: 12px; align-items: center; margin-bottom: 6px; color: var(--dim); font-size: 13px; }
.tools input { font: inherit; color: inherit; background: var(--panel); border: 1px solid var(--line); border-radius: 4px; }
.tools input { padding: 3px 8px; width: 22em; max-width: 60vw; }
.scroll { overflow: auto; max-height: 75vh; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; font-size: 13px; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
th.number, td.number { text-align: right; }
th { position: sticky; top: 0; background: var(--panel); padding: 0; }
th button { all: unset; cursor: pointer; padding: 5px 10px; display: block; width: 100%; box-sizing: border-box; font-weight: 600; }
th button:focus-visible { outline: 2px solid var(--link); outline-offset: -2px; }
th[aria-sort=ascending] button::after { content: " \\25B2"; } th[aria-sort=descending] button::after { content: " \\25BC"; }
tbody tr:hover { background: var(--mark); }
td.owed { color: var(--dim); font-style: italic; }
"""

SCRIPT = """
'use strict';
const number = /^[-+\\u2212]?[\\d.]+(e[-+]?\\d+)?/;
const value = cell => { const found = cell.textContent.trim().replace('\\u2212', '-').match(number); return found ? parseFloat(found[0]) : null; };
const tables = {};

function compare(a, b, column, numeric) {
  const x = a.cells[column], y = b.cells[column];
  if (!numeric) return x.textContent.localeCompare(y.textContent, 'en', {numeric: true});
  return value(x) - value(y);
}

function sort(table, column, order) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const numeric = heads[column].classList.contains('number');
  const missing = row => numeric ? value(row.cells[column]) === null : !row.cells[column].textContent.trim();
  heads.forEach((head, i) => i === column ? head.setAttribute('aria-sort', order) : head.removeAttribute('aria-sort'));
  const rows = [...body.rows].map((row, at) => ({row, at}));
  const sign = order === 'descending' ? -1 : 1;
  rows.sort((a, b) => missing(a.row) - missing(b.row) || (missing(a.row) ? 0 : sign * compare(a.row, b.row, column, numeric)) || a.at - b.at);
  body.append(...rows.map(one => one.row));
}

function filter(table, text) {
  const words = text.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const said = row.textContent.toLowerCase();
    row.hidden = !words.every(word => said.includes(word));
    shown += !row.hidden;
  }
  const all = table.tBodies[0].rows.length, count = table.closest('.table').querySelector('.count');
  count.textContent = shown === all ? all + ' rows' : shown + ' of ' + all + ' rows';
}

function keep(name) {
  const table = tables[name], head = table.querySelector('th[aria-sort]'), state = new URLSearchParams({table: name});
  if (head) { state.set('sort', head.cellIndex); state.set('order', head.getAttribute('aria-sort')); }
  const text = table.closest('.table').querySelector('input').value;
  if (text) state.set('filter', text);
  history.replaceState(null, '', '#' + state);
}

function restore() {
  const state = new URLSearchParams(location.hash.slice(1)), table = tables[state.get('table')];
  if (!table) return;
  const column = parseInt(state.get('sort'), 10), text = state.get('filter') || '';
  const order = state.get('order') === 'descending' ? 'descending' : 'ascending';
  if (column >= 0 && column < table.tHead.rows[0].cells.length) sort(table, column, order);
  table.closest('.table').querySelector('input').value = text;
  filter(table, text);
  table.closest('.table').scrollIntoView();
}

for (const table of document.querySelectorAll('table')) {
  const name = table.id;
  tables[name] = table;
  table.querySelectorAll('th button').forEach((button, column) => button.addEventListener('click', () => {
    const head = button.parentNode, numeric = head.classList.contains('number');
    const now = head.getAttribute('aria-sort'), first = numeric ? 'descending' : 'ascending', second = numeric ? 'ascending' : 'descending';
    sort(table, column, now === first ? second : first);
    keep(name);
  }));
  table.closest('.table').querySelector('input').addEventListener('input', event => { filter(table, event.target.value); keep(name); });
  filter(table, '');
}
window.addEventListener('hashchange', restore);
restore();
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<nav>{contents}</nav>
<main>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


def inline(text, link_of):
    """Converts the code, links and emphasis of one line or cell."""
    kept = []

    def keep(markup):
        kept.append(markup)
        return f"\x00{len(kept) - 1}\x00"
    text = re.sub(r"`([^`]+)`", lambda m: keep(f"<code>{html.escape(m[1])}</code>"), text)
    text = html.escape(text, quote=False)
    link = lambda m: keep(f'<a href="{html.escape(link_of(html.unescape(m[2])))}">') + m[1] + keep("</a>")
    text = re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", link, text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])", r"<em>\1</em>", text)
    return re.sub(r"\x00(\d+)\x00", lambda m: kept[int(m[1])], text)


def slug(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table_of(lines, name, link_of):
    headings, alignment = cells_of(lines[0]), cells_of(lines[1])
    kinds = [' class="number"' if mark.endswith(":") and not mark.startswith(":") else "" for mark in alignment]
    text = f'<div class="table"><div class="tools"><label>Filter <input type="search" placeholder="words that a row ' \
        f'must contain"></label>' \
           f'<span class="count"></span></div>\n<div class="scroll"><table id="{name}">\n<thead><tr>'
    for cell, kind in zip(headings, kinds):
        text += f'<th scope="col"{kind}><button type="button">{inline(cell, link_of) or "&nbsp;"}</button></th>'
    text += "</tr></thead>\n<tbody>\n"
    for line in lines[2:]:
        row = ""
        for cell, kind in zip(cells_of(line), kinds):
            owed = ' class="owed"' if cell.lower() == "not yet measured" else kind
            row += f"<td{owed}>{inline(cell, link_of)}</td>"
        text += f"<tr>{row}</tr>\n"
    return text + "</tbody></table></div></div>\n"


def figure_of(svg, name, caption):
    """Returns the drawing without the parts that only a separate file needs, and with ids that are unique on the page."""
    svg = svg[svg.index("<svg"):svg.rindex("</svg>") + len("</svg>")]
    ids = set(re.findall(r"""\bid=["']([^"']+)["']""", svg))
    svg = re.sub(r"""(\bid=["'])([^"']+)""", rf"\1{name}-\2", svg)
    svg = re.sub(r"""(["'(]#)([^"')]+)""", lambda m: f"{m[1]}{name}-{m[2]}" if m[2] in ids else m[0], svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1)
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>\n"


def page(markdown, svg_of, link_of=lambda target: target):
    """Returns the page. svg_of(path) is a figure's text; link_of(target) is the target of a link as seen from the page."""
    lines = re.sub(r"<!--.*?-->\n?", "", markdown, flags=re.DOTALL).splitlines()
    body, contents, title, section, tables, figures, at = "", "", "Results", "page", {}, 0, 0
    while at < len(lines):
        line = lines[at]
        block = re.match(r"(#+) (.*)|(\|)|(- )|(    \S)|!\[([^\]]*)\]\(([^)]+)\)$", line)
        end = at + 1
        if not line.strip():
            pass
        elif block and block[1]:
            level, text = len(block[1]), block[2]
            section = slug(text)
            if level == 1:
                title = text
            if level == 2:
                contents += f'<a href="#{section}">{inline(text, link_of)}</a>'
            body += f'<h{level} id="{section}">{inline(text, link_of)}</h{level}>\n'
        elif block and block[3]:
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            tables[section] = tables.get(section, 0) + 1
            body += table_of(lines[at:end], f"{section}-{tables[section]}", link_of)
        elif block and block[4]:
            while end < len(lines) and re.match(r"- |  \S", lines[end]):
                end += 1
            items = re.split(r"^- ", "\n".join(lines[at:end]), flags=re.MULTILINE)[1:]
            body += "<ul>\n" + "".join(f"<li>{inline(' '.join(item.split()), link_of)}</li>\n" for item in items) + "</ul>\n"
        elif block and block[5]:
            while re.match(r"    |\n    ", "\n".join(lines[end:end + 2])):  # an empty line inside the code is part of it
                end += 1
            body += "<pre><code>" + html.escape("\n".join(row[4:] for row in lines[at:end])) + "</code></pre>\n"
        elif block and block[7]:
            figures += 1
            body += figure_of(svg_of(block[7]), f"figure-{figures}", block[6])
        else:
            while end < len(lines) and lines[end].strip() and not re.match(r"#+ |\||- |!\[", lines[end]):
                end += 1
            body += f"<p>{inline(' '.join(lines[at:end]), link_of)}</p>\n"
        at = end
    return PAGE.format(title=html.escape(title), style=STYLE, contents=contents, body=body, script=SCRIPT)

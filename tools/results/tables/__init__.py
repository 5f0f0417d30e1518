"""The sections of RESULTS.md, one file per subject. A section is a function (data, figures) that returns its text and adds the scripts of its
figures to `figures`, by their path under profiles/. tools/results.py lists the sections and writes the page."""

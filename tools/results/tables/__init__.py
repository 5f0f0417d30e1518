"""The sections of RESULTS.md, a file per subject. A section is a function (data, figures) that returns its text and puts the scripts of
its figures into `figures`, by their path under profiles/; tools/results.py lists the sections and writes the page."""

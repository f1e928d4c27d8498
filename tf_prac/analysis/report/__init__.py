"""A report of one or several runs as one self-contained HTML page.

page.py        the page: `write_report`            style.py     the style sheet
run_data.py    the data of a run: `read_run_data`  html.py      elements; all text is escaped
sections.py    the panels with charts              charts.py    SVG charts, light and dark
tables.py      the tables                          pictures.py  images of samples
comparison.py  several runs compared               numbers.py   formatting of numbers
"""

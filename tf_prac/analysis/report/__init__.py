"""The story of one or several runs as one HTML page that needs nothing else.

page.py      the page: `write_report`           style.py    its one style sheet
story.py     what a run has written down        html.py     elements; all text is escaped
sections.py  what is drawn                      charts.py   SVG for light and dark
tables.py    what is listed                     pictures.py images of samples
comparison.py  several runs side by side        numbers.py  how figures are written
"""

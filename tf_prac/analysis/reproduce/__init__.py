"""Figures and tables of the papers, each from one command.

item.py      `Item`, what one figure or table needs       setup.py    data, network and options
parts.py     comparisons, sweeps and analyses it runs     verdict.py  checks against the paper
run.py       runs an item, writes table and verdict       count.py    steps, before anything runs
prac.py      items of the PrAC paper; the other papers have modules of the same kind
"""

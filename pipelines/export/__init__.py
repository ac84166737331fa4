"""Export: the rows of a snapshot for tools that know nothing of this project.

rows.py reads them, tables.py and tars.py write them, card.py says what they are.
"""

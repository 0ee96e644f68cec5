"""Studies: train the rows of a table of the papers, score them, and compare them with the published numbers.

`keras-recnet study` runs them. The shipped studies are the ablations of both papers, RecNet's fusion methods, and the
group sizes of the RCAU network.
"""

"""Data sets with the truth, in the files of their makers: one file here for each data set."""

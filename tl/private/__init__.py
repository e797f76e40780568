"""Private names of other libraries: one file for each, and no other file uses any."""

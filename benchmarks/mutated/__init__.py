"""Files that are damaged at random, given to every reader: errors of one line only, bounded memory and time."""

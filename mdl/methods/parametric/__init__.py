"""Programs that are numbers: how far some weights move. The decoder does not train."""

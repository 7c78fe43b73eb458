"""Five of GoLongRL's tasks about one text, each rewarded by its own metric, in a world of few words."""

"""The multi-task world: five of GoLongRL's tasks about one text, each rewarded by its own metric."""

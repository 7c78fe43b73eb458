"""The rewarded tasks, one metric in a file, named by its paper and metric; `golongrl.py` lists GoLongRL's tasks."""

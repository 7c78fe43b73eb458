"""One file for each rewarded task, named by its paper and metric; `golongrl.py` lists GoLongRL's nine."""

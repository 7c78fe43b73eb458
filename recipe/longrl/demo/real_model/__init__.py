"""A real pretrained model on real text, on two CPU cores: a cold start, then reinforcement learning, then its results.

`python -m recipe.longrl.demo.real_model.run --quick` shows it in half an hour; without `--quick` it is the whole
experiment.
"""

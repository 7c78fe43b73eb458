"""RULER's thirteen tasks (arXiv 2404.06654), each drawn as the released generator does and by a repaired sampler."""

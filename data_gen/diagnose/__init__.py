"""What a model can and cannot do on some data, how it fails, and what to make more of in the next round."""

"""The tiny world of the no-GPU run: documents, tokenizer, model and warm start, all made from a seed."""

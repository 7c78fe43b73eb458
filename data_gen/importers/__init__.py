"""Read published question sets as training samples."""

"""Mix several sources of samples into one training file."""

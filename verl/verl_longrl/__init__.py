"""LongRL's additions to upstream verl: rewards, data, trainer and platform plugins (see verl/README.md)."""

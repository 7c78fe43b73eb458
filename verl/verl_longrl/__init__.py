"""LongRL's additions to verl: rewards, data, trainer and platform plugins (see verl/README.md)."""

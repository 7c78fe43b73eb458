"""The KeyChain world: questions hidden behind chains of keys, which is LoongRL's task."""

"""Make text of others fit into one line of a log or a terminal."""


def one_line(text: str) -> str:
    """`text` with a space for each line break, terminal control or lone surrogate, so that it can be printed."""
    return "".join(character if character.isprintable() else " " for character in text)

"""What is the end of a sentence, and what only looks like one."""

import itertools

import pytest

from data_gen.keychain.sentence_ends import sentence_ends


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One ends. Another begins.", ["One ends.", " Another begins."]),
        ("Is it? Yes! It is.", ["Is it?", " Yes!", " It is."]),
        ('He said "no." Then he left.', ['He said "no."', " Then he left."]),
        ('He left. "No," she said.', ["He left.", ' "No," she said.']),
        ("It was 1990. In 1991 it was not.", ["It was 1990.", " In 1991 it was not."]),
        ("Founded in 1867. 1868 was worse.", ["Founded in 1867.", " 1868 was worse."]),
        ("In Zürich. Übermut followed.", ["In Zürich.", " Übermut followed."]),
        ("Really?! Yes.", ["Really?!", " Yes."]),
        # no ends
        ("the U.S. Army", ["the U.S. Army"]),
        ("Dr. Smith and Mrs. Jones vs. St. John", ["Dr. Smith and Mrs. Jones vs. St. John"]),
        ("J. R. R. Tolkien", ["J. R. R. Tolkien"]),
        ("it costs 3.5 million", ["it costs 3.5 million"]),
        ("No. 5 is first", ["No. 5 is first"]),
        ("well... Maybe", ["well... Maybe"]),
        ("it is e.g. Rome", ["it is e.g. Rome"]),
        ("a. b. c", ["a. b. c"]),
        ("Heading\n2. History\nText", ["Heading\n2. History\nText"]),
        ("One ends.\nAnother begins.", ["One ends.\nAnother begins."]),
        ("it ended. and went on", ["it ended. and went on"]),
        ("no space.Here", ["no space.Here"]),
        ("two spaces.  Here", ["two spaces.  Here"]),
        ("It ends.", ["It ends."]),
        ("", [""]),
    ],
)
def test_ends(text, pieces):
    places = [0, *sentence_ends(text), len(text)]
    assert [text[a:b] for a, b in itertools.pairwise(places)] == pieces

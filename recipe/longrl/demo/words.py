"""Words of the demo worlds: things that questions ask about, colors that answer them, and words of chatter."""

from __future__ import annotations

import random

_THINGS = """
lamp door river garden tower bridge wagon harbor mirror ladder basket barrel candle carpet chapel clock
cottage curtain drum engine farm fountain gate hammer island jacket kettle library market meadow mill museum
needle orchard oven palace piano pillow pond quilt ribbon saddle school shelf ship station statue stove table
temple tent theater tunnel valley vase village violin wall wheel window workshop yard anchor attic
"""
KEYS = tuple(_THINGS.split())
_COLORS = """
amber azure beige bronze cherry chestnut cobalt copper coral cream crimson cyan ebony emerald fern ginger gold
graphite hazel honey indigo iris ivory jade jasmine juniper khaki lavender lemon lilac lime linen magenta
mahogany maple maroon mint mustard navy nickel ochre olive onyx orange orchid pearl pewter pine platinum plum
quartz rose ruby rust saffron salmon scarlet sienna silver tan teal topaz umber violet
"""
VALUES = tuple(_COLORS.split())
SPEAKERS = ("someone", "nobody", "everyone", "people", "children", "sailors", "farmers", "travellers")
VERBS = ("saw", "liked", "painted", "mentioned", "forgot", "sold", "wanted", "praised")
SIGHTS = ("rain", "snow", "birds", "music", "bread", "stars", "clouds", "horses", "boats", "games", "trees", "fire")


def chatter(rng: random.Random) -> str:
    """A sentence of four words that answers no question."""
    return f"{rng.choice(SPEAKERS)} {rng.choice(VERBS)} {rng.choice(SIGHTS)} ."

"""Two benchmarks of a few rows, with a model that knows the answers."""

from recipe.longrl.evaluation.records import NO_DOCUMENT, Benchmark, Outcome, Row

CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Peru": "Lima",
    "Mali": "Bamako",
    "Laos": "Vientiane",
}


def rows(samples=3, lengths=(100, 200), seed=0):
    """`samples` questions at each length; a question is a cluster over the lengths."""
    for length in lengths:
        for number, (country, capital) in enumerate(list(CAPITALS.items())[:samples]):
            document = f"The capital of {country} is {capital}. " + "Nothing else is known. " * (length // 10)
            asked, closed = (
                ({"role": "user", "content": f"{text}\nWhat is the capital of {country}?"},)
                for text in (document, NO_DOCUMENT)
            )
            yield Row(
                id=f"{country}/{length}",
                messages=asked,
                gold=capital,
                max_tokens=16,
                answer_prefix=" Answer: the capital is",
                cell=f"capitals/{length}",
                length=length,
                cluster=country,
                position=number / samples,
                closed_book=closed,
            )


def substring(text, row):
    """1 for an answer that contains the gold answer."""
    return Outcome(float(row.gold.lower() in text.lower()), text.strip(), {"words": min(1.0, len(text.split()) / 10)})


def exact(text, row):
    """1 for the answer alone."""
    return Outcome(float(text.strip().rstrip(".") == row.gold), text.strip())


BENCHMARK = Benchmark("capitals", rows, {"published": substring, "strict": exact}, "capitals of countries")


def know(body):
    """The answer to the question of a chat request; "I think it is Oslo." for Laos."""
    question = body["messages"][0]["content"].rpartition("What is the capital of ")[2]
    country = question.partition("?")[0]
    return "I think it is Oslo." if country == "Laos" else CAPITALS[country]

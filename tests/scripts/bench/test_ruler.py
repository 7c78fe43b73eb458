"""The sums of the RULER benchmark."""

import ruler


def test_totals_are_sums_over_the_tasks_of_each_length():
    cells = {
        "vt/4096": {"released_s": 3.0, "ours_s": 0.5},
        "cwe/4096": {"released_s": 2.0, "ours_s": 0.5},
        "vt/32768": {"released_s": 9.0, "ours_s": 3.0},
    }
    assert ruler.totals(cells) == {
        "4096": {"released_s": 5.0, "ours_s": 1.0, "times_as_fast": 5.0},
        "32768": {"released_s": 9.0, "ours_s": 3.0, "times_as_fast": 3.0},
    }

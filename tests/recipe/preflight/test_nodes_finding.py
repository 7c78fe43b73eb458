"""What many nodes found in few lines: the same is said once, and who deviates is named with value and fix."""

from recipe.longrl.preflight import nodes
from recipe.longrl.preflight.check import Check
from recipe.longrl.preflight.nodes.finding import Finding, merge
from recipe.longrl.preflight.nodes.visit import names


def test_what_all_say_is_one_line_with_the_range_of_its_numbers():
    found = {f"n{i}": [Finding("disk", "ok", "{} GiB free", (free,))] for i, free in enumerate((120, 340, 200))}
    assert list(merge(found)) == [Check("nodes: disk", "ok", "3 nodes: 120 to 340 GiB free")]


def test_who_deviates_is_named():
    same = Finding("versions", "ok", "ray 2.60.0")
    found = {"a": [same], "b": [Finding("versions", "FAIL", "ray 1.0, expected 2.60.0")], "c": [same]}
    assert list(merge(found)) == [
        Check("nodes: versions", "ok", "a, c: ray 2.60.0"),
        Check("nodes: versions", "FAIL", "b: ray 1.0, expected 2.60.0"),
    ]


def test_what_should_be_uniform_warns_about_the_few():
    found = {
        node: [Finding("GPU driver", "ok", version, uniform=True)]
        for node, version in zip("abc", ("550.54", "535.1", "550.54"), strict=True)
    }
    lines = {line.status: line.detail for line in merge(found)}
    assert lines["ok"] == "a, c: 550.54"
    assert lines["warn"].startswith("b: 535.1; 2 others have 550.54. Fix: make them the same")


def test_of_two_that_differ_one_is_named_beside_the_other():
    found = {node: [Finding("GPU type", "ok", kind, uniform=True)] for node, kind in (("a", "H100"), ("b", "A100"))}
    assert [line.status for line in merge(found)] == ["ok", "warn"]


def test_many_nodes_are_counted_not_listed():
    found = {f"n{i}": [Finding("ports", "FAIL" if i else "ok", "busy")] for i in range(20)}
    detail = next(line.detail for line in merge(found) if line.status == "FAIL")
    assert "n1, n2, n3, n4, n5, n6, n7, n8 and 11 more: busy" in detail


def test_clocks_within_what_a_round_trip_can_tell():
    assert nodes.clock(0.2, 0.01).status == "ok"
    assert nodes.clock(30.0, 29.5).status == "ok"  # it may be the network
    assert nodes.clock(-5.0, 0.01).status == "warn"
    ahead = nodes.clock(3600.0, 0.5)
    assert ahead.status == "FAIL"
    (line,) = merge({"n1": [ahead]})
    assert line.detail.startswith("n1: 3,600 s ahead of the driver's, give or take 0.5. Fix: synchronise it")


def test_nodes_of_one_machine_have_names_of_their_own():
    assert names([("a", "10.0.0.1", "1" * 56), ("b", "10.0.0.2", "2" * 56)]) == ["a (10.0.0.1)", "b (10.0.0.2)"]
    assert names([("a", "10.0.0.1", c * 56) for c in "12"]) == [
        "a (10.0.0.1, node 11111111)",
        "a (10.0.0.1, node 22222222)",
    ]

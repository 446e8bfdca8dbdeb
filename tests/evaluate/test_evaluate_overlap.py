from taskdef.evaluate.overlap import count_overlap, normalised
from taskdef.records import TestRow


def test_case_spacing_and_unicode_width_do_not_make_another_question() -> None:
    assert normalised(" What is  3 + 5?\n") == normalised("WHAT IS 3 + 5\uff1f")


def test_an_operator_makes_another_question() -> None:
    assert normalised("3 - 5") != normalised("3 + 5")


def test_the_rows_found_in_each_pool_are_counted_and_named() -> None:
    rows = [TestRow(id="r1", input="3 + 5 =", answer="8"), TestRow(id="r2", input="1 + 1 =", answer="2")]
    overlap = count_overlap(rows, {"scoring": ["9 + 9 =", "3  + 5 ="], "training": []})
    assert (overlap["scoring"].inputs, overlap["scoring"].found, overlap["scoring"].row_ids) == (2, 1, ("r1",))
    assert (overlap["training"].inputs, overlap["training"].found) == (0, 0)

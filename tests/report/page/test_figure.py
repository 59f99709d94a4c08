"""Figures and sections: whatever stands in the data, it is text."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from gigassl.report.page.figure import figure, page_json
from gigassl.report.page.frame import page
from gigassl.report.page.section import Section, facts, folded, joined_parts, notes, picture, table

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)  # fmt: skip
EVIL = "</script><script>alert(1)</script><!-- & \u2028"


@given(VALUES)
def test_values_come_back_and_no_sign_of_html_is_among_them(value: object) -> None:
    text = str(page_json(value))
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


def test_arrays_become_lists_and_what_is_no_number_null() -> None:
    value = {"a": np.array([1.5, np.nan, np.inf]), "b": np.int64(3), "c": np.array([[1, 2]])}
    assert json.loads(page_json(value)) == {"a": [1.5, None, None], "b": 3, "c": [[1, 2]]}


def test_every_part_escapes_what_is_put_into_it() -> None:
    body = joined_parts([
        facts({EVIL: EVIL}), table([EVIL], [[EVIL]], caption=EVIL), notes([EVIL]),
        folded(EVIL, facts({"a": 1})), picture(b"x", alt=EVIL, caption=EVIL),
        figure([{"x": [1], "name": EVIL}], alt=EVIL, caption=EVIL, layout={"title": EVIL}),
    ])  # fmt: skip
    text = page(EVIL, [Section(anchor="a", title=EVIL, lead=EVIL, body=body)], lead=EVIL)
    assert isinstance(body, Markup)
    assert "alert(1)" in text
    assert "<script>alert" not in text


def test_numbers_stand_to_the_right_and_missing_ones_are_dashes() -> None:
    text = str(table(["name", "n", "AUC"], [["a", 1234, "0.8 [0.7, 0.9]"], ["b", 5, None]]))
    assert text.count('class="number">') == 6
    assert '<td class="number">1,234</td>' in text
    assert '<td class="number">–</td>' in text


def test_equal_pages_have_equal_bytes() -> None:
    sections = [Section(anchor="a", title="A", body=facts({"n": 1}))]
    assert page("t", sections) == page("t", sections)

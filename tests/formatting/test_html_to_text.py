"""The text part, with results that Moodle's converter gave for the same HTML."""

from __future__ import annotations

import pytest

from emailoffload.moodle.formatting.html_to_text import frame, html_to_text, text_part
from emailoffload.moodle.formatting.text import text_to_html


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            '<p>Hello Ann,</p>\n<p>Please visit <a href="https://m.example/course/view.php?id=7">the course</a> &amp; '
            "<b>Q&amp;A</b> now.</p>\n<ul>\n<li>One</li>\n<li>Two</li>\n</ul>",
            "Hello Ann,\n\nPlease visit the course [1] & Q&A now.\n\n* One\n* Two\n\nLinks:\n------\n"
            "[1] https://m.example/course/view.php?id=7",
        ),
        (
            '<p>Link <a href="/mod/x">rel</a> <a href="mailto:a@b.c">mail</a></p>',
            "Link rel [1]mail\n\nLinks:\n------\n[1] /mod/x",
        ),
        ("A &lt;b&gt; and 1 &lt; 2", "A and 1 < 2"),
        ("<h2>Title</h2>text", "TITLE\n\ntext"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a\nb"),
        ("<blockquote><p>Said</p></blockquote>after", ">\xa0Said\nafter"),
        ("<pre>a  b<br> c</pre>", "a\xa0\xa0b\n\xa0c"),
        ("x<hr>y", "x\n-------------------------\ny"),
        ("<del>no</del>", "n\u0336o\u0336"),
        ("<em>one</em> <i>two</i><ins>3</ins>", "_one__two__3_"),
        ('<img src="a.png" alt="A picture"><img src="b.png" alt="">', "[A picture]"),
        ("&nbsp;&foo;&euro;", "\xa0€"),
        ('<a href="rel">a</a> <a href="#x">b</a> <a href="javascript:x">c</a> <a href="rel">d</a>',
         "a [1]bcd [1]\n\nLinks:\n------\n[1] /rel"),
        ("", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("branch", [404, 405])
def test_bodies_become_the_text_that_moodle_sends(body, expected, branch):
    html = text_to_html(body) if body else ""
    assert text_part(html_to_text(html, branch), branch) == f"\n{expected}\n"


def test_capitals_lose_entities_up_to_moodle_4_4_and_keep_them_later():
    html = "<b>caf&eacute;&nbsp;x</b>"
    assert html_to_text(html, 404) == "CAFX"
    assert html_to_text(html, 405) == "CAFÉ\xa0X"


def test_entities_of_the_apostrophe_vanish_up_to_moodle_4_4_unless_written_39():
    html = "it&#039;s it&apos;s it&#39;s"
    assert html_to_text(html, 404) == "its its it's"
    assert html_to_text(html, 405) == "it's it's it's"


def test_ampersands_of_addresses_are_decoded_by_the_second_conversion_only():
    first = html_to_text('<a href="https://x.example/?a=1&amp;b=2">x</a>', 404)
    assert first.endswith("[1] https://x.example/?a=1&amp;b=2\n")
    assert text_part(first, 404).endswith("[1] https://x.example/?a=1&b=2\n")


def test_the_mailer_wraps_rows_that_the_converter_could_not():
    row = "[1] https://x.example/" + "y" * 80
    assert frame(row) == "\n[1]\nhttps://x.example/" + "y" * 80 + "\n"


def test_script_style_and_head_leave_no_text():
    assert html_to_text("<head>h</head><style>s</style><script>x</script>t", 404) == "t"

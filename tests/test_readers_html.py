"""HTML's visible text, and books made of it."""

import pytest
from reader_doubles import read, text_of, zipped

from abyme.helpers.emit import Unreadable
from abyme.helpers.readers import epub, html


def seen(body: str) -> str:
    return text_of(html, f"<meta charset=utf-8><body>{body}".encode())


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<h2>A <b>b</b></h2><p>c\n  d<br>e</p>", "## A b\n\nc d\ne"),
        ("<div>a</div><div>b <span>c</span></div>", "a\nb c"),
        ("<ul><li>a<ul><li>b</ul><li>c</ul>", "- a\n  - b\n- c"),
        ("<ol start=3><li>a<li>b</ol>d", "3. a\n4. b\n\nd"),
        ("x<pre>\n  a\n   b\n</pre>y", "x\n\n  a\n   b\n\ny"),
        ("<table><tr><th>A<th>B<tr><td><p>1</p><p>2</p><td></table>", "A | B\n1 2 |"),
        ("<table><tr><td><h1>a</h1><td>b</table>", "# a\n\nb"),
        ("<table><tr><td>menu<td><table><tr><td>1<td>2</table></table>", "menu\n\n1 | 2"),
        ("10<sup>9</sup> H<sub>2</sub>O <sup>x</sup>", "10^9 H2O x"),
        ('<a href="https://e.org/x">text</a>, <a href="#a">in</a>', "text (https://e.org/x), in"),
        ('<a href="https://e.org/">https://e.org/</a>', "https://e.org/"),
        ('<img alt="A chart"><img>', "[image: A chart]"),
        ("a&amp;b &lt;i&gt; &#233; &eacute;", "a&b <i> é é"),
        ("<p hidden>a</p><p style='display: none'>b</p><script>c</script><!-- d -->e", "e"),
        ("<style>p{}</style><noscript>a</noscript><template>b</template>c", "c"),
        ("<p>a</p>b<p>c", "a\n\nb\n\nc"),
    ],
)
def test_what_is_seen_reads_as_lines(body: str, text: str) -> None:
    assert seen(body) == text


def test_characters_that_hide_stay_as_they_are() -> None:
    """Evidence is byte for byte: zero width, right to left, no-break, soft hyphen."""
    assert seen("<p>a\u200bb \u202ec\u00a0d\u00ade</p>") == "a\u200bb \u202ec\u00a0d\u00ade"


def test_the_title_stands_first_unless_the_page_shows_it() -> None:
    page = "<title> A\n title </title><body>"

    assert text_of(html, f"{page}<h1>Other</h1>".encode()) == "A title\n\n# Other"
    assert text_of(html, f"{page}<h1>A title</h1><p>x".encode()) == "# A title\n\nx"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'<meta charset="koi8-r"><p>\xf0\xd2', "Пр"),
        (b"<?xml version='1.0' encoding='shift_jis'?><p>\x82\xa0</p>", "あ"),
        ("<p>あ".encode("utf-16"), "あ"),
        (b"\xef\xbb\xbf<meta charset=latin-1><p>\xc3\xa9", "é"),
        (b"<meta charset=iso-8859-1><p>\x93a\x94", "“a”"),
        ("<p>é".encode(), "é"),
        (b"<p>\xe9t\xe9", "été"),
        (b"<meta charset=rot13><p>a", "a"),
        (b"<meta charset=utf-8><p>a\xff", "a\ufffd"),
    ],
)
def test_a_charset_is_the_marks_then_the_declared_then_utf_8_then_western(
    data: bytes, text: str
) -> None:
    assert text_of(html, data) == text


def test_xhtml_that_closes_an_empty_title_at_once_is_all_read() -> None:
    page = b"<?xml version='1.0'?><html><head><title/></head><body><a id='x'/><p>seen</p></body>"

    assert text_of(html, page) == "seen"


@pytest.mark.parametrize("page", [b"", b"<p hidden>x", b"<script>x</script>"])
def test_a_page_that_shows_nothing_is_no_text(page: bytes) -> None:
    with pytest.raises(Unreadable, match=r"^no text$"):
        read(html, page)


def test_deep_nesting_is_walked_and_not_recursed() -> None:
    assert seen("<div>" * 2_000 + "x") == "x"
    assert seen("<table><tr><td>" * 2_000 + "x") == "x"
    assert seen("<p>a" * 20_000) == "\n\n".join("a" * 20_000)
    assert seen("<svg>" + "<path d='1'/>" * 20_000 + "</svg>x") == "x"


def test_a_page_that_nests_deeper_than_any_page_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Unreadable, match=r"^nested too deeply$"):
        seen("<div>" * 100_000 + "x")


CONTAINER = '<container><rootfiles><rootfile full-path="O/b.opf"/></rootfiles></container>'
BOOK = """<package xmlns="urn:x" xmlns:dc="urn:y"><metadata><dc:title>Book</dc:title>
<dc:creator>A. Author</dc:creator></metadata><manifest>
<item id="2" href="two.xhtml" media-type="application/xhtml+xml"/>
<item id="1" href="one%201.xhtml" media-type="application/xhtml+xml"/>
<item id="i" href="x.png" media-type="image/png"/>
<item id="0" href="../missing.xhtml" media-type="application/xhtml+xml"/></manifest>
<spine><itemref idref="1"/><itemref idref="i"/><itemref idref="2"/>SPINE</spine></package>"""


def book(spine: str = "", **more: str) -> bytes:
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": CONTAINER,
            "O/b.opf": BOOK.replace("SPINE", spine),
            "O/one 1.xhtml": "<?xml version='1.0'?><html><body><h1>One</h1></body></html>",
            "O/two.xhtml": "<html><body><p>two é</p></body></html>",
            **{f"META-INF/{name}.xml": data for name, data in more.items()},
        }
    )


def test_chapters_are_pages_in_the_order_of_the_spine() -> None:
    [(_, text, facts)] = read(epub, book()).documents

    assert text == "Book\nA. Author\n\n# One\n\f\ntwo é"
    assert facts["pages"] == [0, text.index("two")]
    assert (facts["page_word"], facts["note"]) == ("chapter", None)


def test_chapters_that_cannot_be_read_are_named() -> None:
    [(_, _, facts)] = read(epub, book('<itemref idref="0"/>')).documents

    assert facts["note"] == "chapters not readable: 3"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            book(
                encryption="<encryption><CipherReference URI='O/one%201.xhtml'/>"
                "<CipherReference URI='O/two.xhtml'/></encryption>"
            ),
            "encrypted",
        ),
        (zipped({"mimetype": "application/epub+zip"}), "broken (no META-INF/container.xml)"),
        (zipped({"META-INF/container.xml": "<container/>"}), "broken (it names no book)"),
        (b"PK\x03\x04 no zip", "broken (File is not a zip file)"),
    ],
)
def test_a_book_that_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(epub, data)

    assert str(caught.value) == reason

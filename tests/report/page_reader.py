"""Parses a page for the tests; fails on unbalanced markup."""

import html.parser

EVIL = '<script>alert("x")</script><img src=http://evil.example/x.png onerror=alert(1)>'
VOID = {"meta", "img", "source", "br", "hr", "link", "input"}


class Page(html.parser.HTMLParser):
    """Collects tags, ids, addresses and text; fails on unbalanced tags."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.addresses, self.words, self.raw = [], [], [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        for name, value in attrs:
            assert not name.startswith("on"), f"inline handler {name} on {tag}"
            assert name != "style", f"inline style on {tag}: the page's policy forbids it"
            if name == "id":
                self.ids.append(value)
            if name in ("src", "srcset", "href", "action", "data", "poster"):
                self.addresses.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without a start"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] in ("style", "script"):
            self.raw.setdefault(self.open[-1], []).append(data)
        else:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

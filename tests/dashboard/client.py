"""A client of the dashboard in this process: it keeps cookies and sends forms, as browsers do."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from starlette.testclient import TestClient

from durableq import DurableQ
from durableq.dashboard import dashboard

BASE = "http://127.0.0.1:8080"


class Page(HTMLParser):
    """A page: its text, and its elements with their attributes."""

    def __init__(self, status: int, html: str) -> None:
        super().__init__()
        self.status = status
        self.html = html
        self.text = ""
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, tag: str, attribute: str) -> list[str]:
        """Return the values of an attribute of all elements of a kind."""
        found = [attributes.get(attribute) for name, attributes in self.elements if name == tag]
        return [value for value in found if value is not None]

    def form_token(self) -> str:
        """Return the token that the forms of this page have."""
        return self.field("form_token")

    def field(self, name: str) -> str:
        """Return the value of the first field of this name; empty if there is none."""
        for tag, attributes in self.elements:
            if tag == "input" and attributes.get("name") == name:
                return str(attributes.get("value") or "")
        return ""


class Client(TestClient):
    """A browser without JavaScript."""

    @classmethod
    def of(cls, dq: DurableQ, base_url: str = BASE, **options: Any) -> Client:
        """Return a client of the dashboard of an application."""
        return cls(dashboard(dq, **options), base_url=base_url)

    def page(self, path: str = "/", **options: Any) -> Page:
        """Return a page."""
        answer = self.get(path, **options)
        return Page(answer.status_code, answer.text)

    def act(self, path: str, origin: str | None = None, **fields: str) -> Page:
        """Send the form of an action, and return the page that it leads to."""
        token = fields.pop("form_token", None)
        if token is None:
            if "durableq_form" not in self.cookies:
                self.get("/")
            token = self.cookies["durableq_form"]
        headers = {"origin": str(self.base_url).rstrip("/") if origin is None else origin}
        answer = self.post(path, data={"form_token": token, **fields}, headers=headers)
        return Page(answer.status_code, answer.text)

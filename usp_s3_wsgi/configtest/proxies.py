"""The ``<Proxy>`` sections of a server: which of them a URL falls under."""

from __future__ import annotations

from usp_s3_wsgi.configtest.patterns import falls_on, is_literal, is_odd, may_match
from usp_s3_wsgi.configtest.prefixes import Prefixes
from usp_s3_wsgi.configtest.servers import Section, Server
from usp_s3_wsgi.configtest.urls import Lead, canonical, has_below, is_below


class Proxies:
    """The ``<Proxy>`` sections that count in a server, those with settings in order."""

    def __init__(self, server: Server) -> None:
        self.sections = [section for one in server.visible for section in one.proxies if section.has_any]
        self.order = {id(section): index for index, section in enumerate(self.sections)}
        literal: dict[str, list[Section]] = {}
        odd: dict[str, list[Section]] = {}
        for section in self.sections:
            if is_literal(section):
                literal.setdefault(section.name, []).append(section)
                if is_odd(section):
                    odd.setdefault(canonical(section.name), []).append(section)
        self.literal, self.odd = Prefixes(literal), Prefixes(odd)
        self.balancers = [section for section in self.sections if section.name.lower().startswith("balancer:")]
        self.patterns = [section for section in self.sections if not is_literal(section)]

    def covering(self, *urls: str) -> list[Section]:
        """The sections of URLs that all requests to these URLs fall under, in order."""
        found = {
            id(section): section
            for url in urls
            for sections in self.literal.beginning(f"{url}/")
            for section in sections
            if is_below(url, section.name)
        }
        return sorted(found.values(), key=lambda section: self.order[id(section)])

    def below(self, *urls: str) -> list[Section]:
        """Those that some of them fall under, but not all."""
        found = {
            id(section): section
            for url in urls
            for sections in self.literal.starting_with(url)
            for section in sections
            if has_below(url, section.name) and not is_below(url, section.name)
        }
        return sorted(found.values(), key=lambda section: self.order[id(section)])

    def odd_ones(self, url: str) -> list[Section]:
        """Those in a spelling that mod_proxy does not apply, which are meant for requests to this URL."""
        found = [
            *(one for ones in self.odd.beginning(f"{url}/") for one in ones if is_below(url, canonical(one.name))),
            *(one for ones in self.odd.starting_with(url) for one in ones if has_below(url, canonical(one.name))),
        ]
        return list({id(section): section for section in found}.values())

    def has_doubtful_pattern(self, lead: Lead) -> bool:
        """Whether a pattern falls on some of what a directive sends, and perhaps not on all."""
        return any(
            not falls_on(section, lead.canonical) and may_match(section, lead.canonical) for section in self.patterns
        )

"""The ``<Proxy>`` sections of a server: which of them a URL falls under."""

from __future__ import annotations

from usp_s3_wsgi.configtest.prefix_index import Prefixes
from usp_s3_wsgi.configtest.proxy_rules import Lead, behind_socket, canonical, has_below, is_below
from usp_s3_wsgi.configtest.section_patterns import falls_on, is_ipv6, is_literal, may_match
from usp_s3_wsgi.configtest.server_config import Section, Server


class Proxies:
    """The ``<Proxy>`` sections that count in a server, those with settings in order."""

    def __init__(self, server: Server) -> None:
        self.sections = [
            section for one in server.visible for section in one.proxies if section.has_any or section.computing
        ]
        self.order = {id(section): index for index, section in enumerate(self.sections)}
        literal: dict[str, list[Section]] = {}
        meant: dict[str, list[Section]] = {}
        for section in self.sections:
            if not section.is_pattern:
                literal.setdefault(section.name, []).append(section)
            if is_literal(section) and section.has_settings:
                meant.setdefault(canonical(behind_socket(section.name)), []).append(section)
        self._literal, self._meant = Prefixes(literal), Prefixes(meant)
        self.balancers = [section for section in self.sections if section.name.lower().startswith("balancer:")]
        self.patterns = [section for section in self.sections if section.is_pattern and not is_ipv6(section)]

    def covering(self, url: str, is_whole: bool = True) -> list[Section]:
        """The sections of URLs that all requests to a URL fall under, in order."""
        found = [
            section
            for sections in self._literal.beginning(f"{url}/")
            for section in sections
            if is_below(url, section.name, is_whole)
        ]
        return sorted(found, key=lambda section: self.order[id(section)])

    def below(self, url: str, is_whole: bool = True) -> list[Section]:
        """Those that some of them fall under, but not all."""
        found = [
            section
            for sections in self._literal.starting_with(url)
            for section in sections
            if has_below(url, section.name, is_whole) and not is_below(url, section.name, is_whole)
        ]
        return sorted(found, key=lambda section: self.order[id(section)])

    def in_another_spelling(self, lead: Lead) -> list[Section]:
        """Those that are meant for what a directive sends, but written so that mod_proxy does not apply them."""
        url, whole = lead.canonical, lead.is_whole
        found = [
            *(one for ones in self._meant.beginning(f"{url}/") for one in ones if is_below(url, _plain(one), whole)),
            *(one for ones in self._meant.starting_with(url) for one in ones if has_below(url, _plain(one), whole)),
        ]
        applied = {id(one) for one in (*self.covering(lead.asked, whole), *self.below(lead.asked, whole))}
        return [one for one in {id(one): one for one in found}.values() if id(one) not in applied]

    def has_doubtful_pattern(self, lead: Lead) -> bool:
        """Whether a pattern falls on some of what a directive sends, and perhaps not on all."""
        return any(not falls_on(section, lead.asked) and may_match(section, lead.asked) for section in self.patterns)


def _plain(section: Section) -> str:
    return canonical(behind_socket(section.name))

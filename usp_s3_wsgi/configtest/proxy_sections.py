"""The ``<Proxy>`` sections of a server, and which of them apply to a URL."""

from __future__ import annotations

from usp_s3_wsgi.configtest.prefix_index import PrefixIndex
from usp_s3_wsgi.configtest.proxy_directives import ProxyDirective
from usp_s3_wsgi.configtest.section_patterns import is_ipv6_url, is_meant_as_url, matches_all_below, may_match_below
from usp_s3_wsgi.configtest.server_config import Section, Server
from usp_s3_wsgi.configtest.urls import canonical, is_below, is_partly_below, without_socket


class ProxySections:
    """The ``<Proxy>`` sections with S3 variables that apply in a server, in httpd's order."""

    def __init__(self, server: Server) -> None:
        self.sections = [
            section
            for one in server.merge_order
            for section in one.proxy_sections
            if section.has_s3_variables or section.computed_settings
        ]
        self.order = {id(section): index for index, section in enumerate(self.sections)}
        by_url: dict[str, list[Section]] = {}
        by_canonical_url: dict[str, list[Section]] = {}
        for section in self.sections:
            if not section.is_pattern:
                by_url.setdefault(section.argument, []).append(section)
            if is_meant_as_url(section) and section.has_settings:
                by_canonical_url.setdefault(_canonical_url(section), []).append(section)
        self._by_url, self._by_canonical_url = PrefixIndex(by_url), PrefixIndex(by_canonical_url)
        self.balancers = [section for section in self.sections if section.argument.lower().startswith("balancer:")]
        self.patterns = [section for section in self.sections if section.is_pattern and not is_ipv6_url(section)]

    def sections_for_all_requests(self, url: str, is_literal: bool = True) -> list[Section]:
        """Return the sections of URLs that apply to all requests to a URL, in order."""
        found = [
            section
            for sections in self._by_url.prefixes_of(f"{url}/")
            for section in sections
            if is_below(url, section.argument, is_literal)
        ]
        return sorted(found, key=lambda section: self.order[id(section)])

    def sections_for_some_requests(self, url: str, is_literal: bool = True) -> list[Section]:
        """Return the sections of URLs that apply to some requests to a URL, but not to all."""
        found = [
            section
            for sections in self._by_url.starting_with(url)
            for section in sections
            if is_partly_below(url, section.argument, is_literal) and not is_below(url, section.argument, is_literal)
        ]
        return sorted(found, key=lambda section: self.order[id(section)])

    def written_differently(self, proxy_directive: ProxyDirective) -> list[Section]:
        """Return the sections that mod_proxy does not apply, because their URL is written differently."""
        url, is_literal = proxy_directive.canonical, proxy_directive.is_literal
        found = [
            section
            for sections in self._by_canonical_url.prefixes_of(f"{url}/")
            for section in sections
            if is_below(url, _canonical_url(section), is_literal)
        ]
        found += [
            section
            for sections in self._by_canonical_url.starting_with(url)
            for section in sections
            if is_partly_below(url, _canonical_url(section), is_literal)
        ]
        applied = (
            *self.sections_for_all_requests(proxy_directive.proxy_walk_url, is_literal),
            *self.sections_for_some_requests(proxy_directive.proxy_walk_url, is_literal),
        )
        applied_ids = {id(section) for section in applied}
        return [one for one in {id(one): one for one in found}.values() if id(one) not in applied_ids]

    def may_match_some_requests(self, proxy_directive: ProxyDirective) -> bool:
        """Whether a pattern matches some requests of a proxy directive, and perhaps not all of them."""
        return any(
            not matches_all_below(section, proxy_directive.proxy_walk_url)
            and may_match_below(section, proxy_directive.proxy_walk_url)
            for section in self.patterns
        )


def _canonical_url(section: Section) -> str:
    return canonical(without_socket(section.argument))

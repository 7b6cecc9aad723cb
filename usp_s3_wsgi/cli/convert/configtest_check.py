"""Checks with configtest whether httpd accepts a converted configuration and serves its buckets, as ``httpd -t`` does.

There are two differences: the file may be a part of a configuration, and it is unknown which configuration-time tests
(<IfModule>, <IfDefine>) are true. And all S3 directives of the file are there to sign requests, so settings that apply
to no request are an error, and so are health checks that are not signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from usp_s3_wsgi.cli.convert.evaluation import ConfigurationTimeTest, Evaluation, tests_around_credentials
from usp_s3_wsgi.cli.convert.line_edits import Message
from usp_s3_wsgi.cli.convert.mod_unified_s3_auth import S3_DIRECTIVES
from usp_s3_wsgi.configtest import gateway_mounts, health_checks, proxied_requests, unused_settings
from usp_s3_wsgi.configtest.apache_syntax import Node, parse, walk
from usp_s3_wsgi.configtest.findings import Finding, Findings
from usp_s3_wsgi.configtest.proxy_directives import ProxyDirective, ProxyDirectives
from usp_s3_wsgi.configtest.server_config import Server, build_servers


def check_converted(text: str, origins: Sequence[int], file: Path | None) -> list[Message]:
    """Return what is wrong with a converted configuration.

    ``origins``: for each of its lines the number of the old line. ``file``: the path of the old configuration, for
    what it includes.
    """
    nodes = parse(text)
    tests_by_section = list(tests_around_credentials(nodes))
    # First with all credentials, then without those that are inside <IfModule>, <IfDefine> and so on.
    negated = [test for expected in tests_by_section for test, value in expected.items() if not value]
    with_credentials = _findings(nodes, origins, file, negated)
    messages = [*_unknown_directives(nodes, origins), *with_credentials]
    known = set(with_credentials)
    for expected in {tuple(sorted(expected.items())): expected for expected in tests_by_section}.values():
        false = [test for test in negated if test not in expected]
        false += [test for test, value in expected.items() if value]
        for message in _findings(nodes, origins, file, false):
            if message.is_error and message not in known:
                messages.append(message._replace(text=f"{_if_not(expected)}: {message.text}"))
    return messages


def _unknown_directives(nodes: Sequence[Node], origins: Sequence[int]) -> Iterator[Message]:
    for line, _ in walk(nodes):
        if re.fullmatch(r"s3[a-z0-9]+", line.name) and line.name not in S3_DIRECTIVES:
            # The message does not contain the name: the second half of a broken line may begin with a secret.
            text = "unknown directive, which httpd rejects unless another module has it"
            yield Message(origins[line.number - 1], True, text)


def _if_not(expected: dict[ConfigurationTimeTest, bool]) -> str:
    names = [f"<{_NAMES.get(kind, kind)} {'' if value else '!'}{word}>" for (kind, word), value in expected.items()]
    return f"where {' and '.join(names)} {'does' if len(names) == 1 else 'do'} not apply"


_NAMES = {"ifdefine": "IfDefine", "ifmodule": "IfModule", "ifversion": "IfVersion", "iffile": "IfFile"}


def _findings(
    nodes: Sequence[Node], origins: Sequence[int], file: Path | None, false: Iterable[ConfigurationTimeTest]
) -> list[Message]:
    evaluation = Evaluation(file, false)
    servers = build_servers(evaluation.read(nodes, lambda number: origins[number - 1]))
    found, always_errors = Findings(), Findings()
    all_proxy_directives = [ProxyDirectives(server) for server in servers]
    mounts = [
        mount
        for server, proxy_directives in zip(servers, all_proxy_directives, strict=True)
        for mount in gateway_mounts.check(server, proxy_directives, found)
    ]
    unused_settings.check(servers, mounts, all_proxy_directives, always_errors)
    health_checks.check(servers, always_errors)
    reached, _ = proxied_requests.check(servers, all_proxy_directives, found)
    for proxy_directives in all_proxy_directives:
        proxy_directives.all += _proxy_directives_elsewhere(proxy_directives.server, reached)
    proxied_requests.check(servers, all_proxy_directives, found)
    findings = [*found.found, *(one._replace(is_error=True) for one in always_errors.found)]
    return [Message(one.line, one.is_error, _with_variables(one, evaluation.samples)) for one in findings]


def _proxy_directives_elsewhere(server: Server, reached: set[int]) -> list[ProxyDirective]:
    """Return one for each section that no request here matches: of another file, or for manifests of the Origin."""
    unreached = [section for section in server.proxy_sections if id(section) not in reached]
    sections = [section for section in unreached if section.has_settings and not section.is_pattern]
    return [
        ProxyDirective(server, section.directive, "other", section.argument, True, None, None)
        for section in sections
        if section.directive is not None and not section.argument.lower().startswith("balancer:")
    ]


def _with_variables(finding: Finding, samples: dict[str, str]) -> str:
    text = finding.text
    for sample, variable in samples.items():
        text = text.replace(sample, variable)
    return text

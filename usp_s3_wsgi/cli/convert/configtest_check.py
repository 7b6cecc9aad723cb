"""Checks with configtest whether httpd accepts a converted configuration and serves its buckets, as ``httpd -t`` does.

There are two differences: the file may be a part of a configuration, and it is unknown which conditions are true. And
all S3 directives of the file are there to sign requests, so settings that apply to no request are an error, and so are
health checks that are not signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from usp_s3_wsgi.cli.convert.evaluation import Condition, Evaluation, conditions_of_keys
from usp_s3_wsgi.cli.convert.line_edits import Message
from usp_s3_wsgi.cli.convert.vendor_module import VENDOR_DIRECTIVES
from usp_s3_wsgi.configtest import gateway_mounts, health_checks, proxied_requests, unused_settings
from usp_s3_wsgi.configtest.apache_syntax import Node, parse, walk
from usp_s3_wsgi.configtest.findings import Finding, Findings
from usp_s3_wsgi.configtest.proxy_rules import ProxyRule, ProxyRules
from usp_s3_wsgi.configtest.server_config import Server, build_servers


def check_converted(text: str, origins: Sequence[int], file: Path | None) -> list[Message]:
    """Return what is wrong with a converted configuration.

    ``origins``: for each of its lines the number of the old line. ``file``: the path of the old configuration, for
    what it includes.
    """
    nodes = parse(text)
    conditional = list(conditions_of_keys(nodes))
    # First with all keys, then without those that are in conditions.
    negated = [condition for expected in conditional for condition, value in expected.items() if not value]
    with_keys = _findings(nodes, origins, file, negated)
    messages = [*_unknown_directives(nodes, origins), *with_keys]
    known = set(with_keys)
    for expected in {tuple(sorted(expected.items())): expected for expected in conditional}.values():
        false = [condition for condition in negated if condition not in expected]
        false += [condition for condition, value in expected.items() if value]
        for message in _findings(nodes, origins, file, false):
            if message.is_error and message not in known:
                messages.append(message._replace(text=f"{_if_not(expected)}: {message.text}"))
    return messages


def _unknown_directives(nodes: Sequence[Node], origins: Sequence[int]) -> Iterator[Message]:
    for line, _ in walk(nodes):
        if re.fullmatch(r"s3[a-z0-9]+", line.name) and line.name not in VENDOR_DIRECTIVES:
            # The message does not contain the name: the second half of a broken line may begin with a secret.
            text = "unknown directive, which httpd rejects unless another module has it"
            yield Message(origins[line.number - 1], True, text)


def _if_not(expected: dict[Condition, bool]) -> str:
    names = [f"<{_NAMES.get(kind, kind)} {'' if value else '!'}{word}>" for (kind, word), value in expected.items()]
    return f"where {' and '.join(names)} {'does' if len(names) == 1 else 'do'} not apply"


_NAMES = {"ifdefine": "IfDefine", "ifmodule": "IfModule", "ifversion": "IfVersion", "iffile": "IfFile"}


def _findings(
    nodes: Sequence[Node], origins: Sequence[int], file: Path | None, false: Iterable[Condition]
) -> list[Message]:
    evaluation = Evaluation(file, false)
    servers = build_servers(evaluation.read(nodes, lambda number: origins[number - 1]))
    found, always_errors = Findings(), Findings()
    all_rules = [ProxyRules(server) for server in servers]
    mounts = [
        mount
        for server, rules in zip(servers, all_rules, strict=True)
        for mount in gateway_mounts.check(server, rules, found)
    ]
    unused_settings.check(servers, mounts, all_rules, always_errors)
    health_checks.check(servers, always_errors)
    reached, _ = proxied_requests.check(servers, all_rules, found)
    for rules in all_rules:
        rules.all += _rules_elsewhere(rules.server, reached)
    proxied_requests.check(servers, all_rules, found)
    findings = [*found.found, *(one._replace(is_error=True) for one in always_errors.found)]
    return [Message(one.line, one.is_error, _with_variables(one, evaluation.samples)) for one in findings]


def _rules_elsewhere(server: Server, reached: set[int]) -> list[ProxyRule]:
    """Return a rule for each section that no request here matches: of another file, or for manifests of the Origin."""
    unreached = [section for section in server.proxy_sections if id(section) not in reached]
    sections = [section for section in unreached if section.has_settings and not section.is_pattern]
    return [
        ProxyRule(server, section.directive, "other", section.argument, True, None, None)
        for section in sections
        if section.directive is not None and not section.argument.lower().startswith("balancer:")
    ]


def _with_variables(finding: Finding, samples: dict[str, str]) -> str:
    text = finding.text
    for sample, variable in samples.items():
        text = text.replace(sample, variable)
    return text

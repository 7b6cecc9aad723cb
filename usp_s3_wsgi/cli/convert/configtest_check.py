"""Whether httpd will take a converted configuration and serve its buckets: as ``httpd -t`` judges it, by configtest.

What is different here: the file may be a part of a configuration only, and which conditions hold is not known. And all
its S3 directives are there because something was signed with them: settings that count for no request are an error, and
so are health checks that go out unsigned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from usp_s3_wsgi.cli.convert.evaluation import Condition, Evaluation, conditions_of_keys
from usp_s3_wsgi.cli.convert.line_edits import KEYS, Message
from usp_s3_wsgi.configtest import gateway_mounts, health_checks, proxied_requests, unused_settings
from usp_s3_wsgi.configtest.apache_syntax import Node, parse, walk
from usp_s3_wsgi.configtest.findings import Finding, Findings
from usp_s3_wsgi.configtest.proxy_rules import Lead, Leads
from usp_s3_wsgi.configtest.server_config import Server, build


def judge(text: str, origins: Sequence[int], file: Path | None) -> list[Message]:
    """Return what is wrong with a new configuration.

    ``origins``: of each of its lines the number of the old one. ``file``: where the old one is, for what it includes.
    """
    nodes = parse(text)
    conditional = list(conditions_of_keys(nodes))
    # As it is with keys, and then what is different without them.
    unwanted = [asked for wanted in conditional for asked, holds in wanted.items() if not holds]
    with_keys = _findings(nodes, origins, file, unwanted)
    messages = [*_unknown(nodes, origins), *with_keys]
    for wanted in {tuple(sorted(wanted.items())): wanted for wanted in conditional}.values():
        false = [asked for asked in unwanted if asked not in wanted]
        false += [asked for asked, holds in wanted.items() if holds]
        for message in _findings(nodes, origins, file, false):
            if message.is_error and message not in with_keys:
                messages.append(message._replace(text=f"{_without(wanted)}: {message.text}"))
    return messages


def _unknown(nodes: Sequence[Node], origins: Sequence[int]) -> Iterator[Message]:
    for line, _ in walk(nodes):
        if re.fullmatch(r"s3[a-z0-9]+", line.name) and line.name not in KEYS:
            # Not its name: a line that was broken in two may begin with a secret.
            text = "this directive is not known here, and httpd refuses it unless another module has it"
            yield Message(origins[line.number - 1], True, text)


def _without(wanted: dict[Condition, bool]) -> str:
    names = [f"<{_NAMES.get(kind, kind)} {'' if holds else '!'}{word}>" for (kind, word), holds in wanted.items()]
    return f"where {' and '.join(names)} {'does' if len(names) == 1 else 'do'} not apply"


_NAMES = {"ifdefine": "IfDefine", "ifmodule": "IfModule", "ifversion": "IfVersion", "iffile": "IfFile"}


def _findings(
    nodes: Sequence[Node], origins: Sequence[int], file: Path | None, false: Iterable[Condition]
) -> list[Message]:
    evaluation = Evaluation(file, false)
    servers = build(evaluation.read(nodes, lambda number: origins[number - 1]))
    found, certain = Findings(), Findings()
    leads = [Leads(server) for server in servers]
    mounts = [
        mount for server, own in zip(servers, leads, strict=True) for mount in gateway_mounts.check(server, own, found)
    ]
    unused_settings.check(servers, mounts, leads, certain)
    health_checks.check(servers, certain)
    reached, _ = proxied_requests.check(servers, leads, found)
    for own in leads:
        own.all += _leads_from_elsewhere(own.server, reached)
    proxied_requests.check(servers, leads, found)
    findings = [*found.found, *(one._replace(is_error=True) for one in certain.found)]
    return [Message(one.line, one.is_error, _with_variables(one, evaluation.samples)) for one in findings]


def _leads_from_elsewhere(server: Server, reached: set[int]) -> list[Lead]:
    """To each section of a URL that nothing here leads to: other files may, or manifests that the Origin reads."""
    unreached = [section for section in server.proxies if id(section) not in reached]
    sections = [section for section in unreached if section.has_settings and not section.is_pattern]
    return [
        Lead(server, section.directive, "other", section.name, True, None, None)
        for section in sections
        if section.directive is not None and not section.name.lower().startswith("balancer:")
    ]


def _with_variables(finding: Finding, samples: dict[str, str]) -> str:
    text = finding.text
    for sample, variable in samples.items():
        text = text.replace(sample, variable)
    return text

"""``usp-s3 config gateway|proxy``: write the configuration of a bucket, from options or from answers on a terminal."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import stat
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click

from usp_s3_wsgi.cli import console, trusted_path
from usp_s3_wsgi.cli.config import answers as checks
from usp_s3_wsgi.cli.config import key_file
from usp_s3_wsgi.cli.config.answers import Answers, Way
from usp_s3_wsgi.cli.config.key_file import KeyFileError
from usp_s3_wsgi.cli.config.providers import BY_NAME, PROVIDERS, Provider
from usp_s3_wsgi.cli.config.questions import (
    Questions,
    confirm,
    folded,
    is_output_shown,
    is_terminal,
    optional,
    prompt,
    prompt_hidden,
    wrapped,
)
from usp_s3_wsgi.cli.config.rendering import render
from usp_s3_wsgi.cli.trusted_path import UntrustedPathError
from usp_s3_wsgi.errors import SettingError

#: The directory of docs/getting-started.md.
_KEY_DIRECTORY = "/etc/apache2/s3"
_SITES = Path("/etc/apache2/sites-available")
#: More than a secret key has: standard input is not read any further.
_MAX_SECRET = 4_096
_NAMES = ", ".join(BY_NAME)


@click.command("config", short_help="Write the configuration of a bucket.")
@click.argument("way", type=click.Choice(["gateway", "proxy"]))
@click.option("--provider", metavar="NAME", help=f"One of {_NAMES}.", shell_complete=console.completes(BY_NAME))
@click.option("--bucket", metavar="NAME", help="The name of the bucket.")
@click.option("--region", metavar="NAME", help="The region of the bucket.")
@click.option("--endpoint", metavar="URL", help="The URL of the service, if the provider does not have a fixed one.")
@click.option("--account", "--namespace", metavar="ID", help="R2: the account ID. Oracle: the namespace.")
@click.option(
    "--style",
    metavar="STYLE",
    help="Where the bucket's name is in the URL: path or host.",
    shell_complete=console.completes(("path", "host")),
)
@click.option(
    "--signature", metavar="VERSION", help="v4, or v2 for old servers.", shell_complete=console.completes(("v4", "v2"))
)
@click.option("--ca-file", metavar="FILE", help="The private authority of the server's certificate.")
@click.option("--path", metavar="PATH", help="Where this server serves the bucket. Default: /media")
@click.option("--access-key", metavar="KEY", help="The access key. It is not a secret.")
@click.option(
    "--secret-key-file", metavar="FILE", help=f"The file with the secret key. Default: {_KEY_DIRECTORY}/BUCKET.secret"
)
@click.option("--role-arn", metavar="ARN", help="A role that the keys or the identity assume.")
@click.option("--secret-key-from-stdin", is_flag=True, help="Create the file with the secret key, from standard input.")
@click.option("--apache-group", metavar="NAME", help="Who may read this file, if httpd cannot be asked for its group.")
@click.option("-o", "--output", metavar="FILE", help="The file to write. Default: standard output")
@click.option("--force", is_flag=True, help="Replace the output file if it exists.")
@click.option("--no-input", is_flag=True, help="Ask nothing: use the defaults.")
def command(
    way: Way,
    secret_key_from_stdin: bool,
    apache_group: str | None,
    output: str | None,
    force: bool,
    no_input: bool,
    **options: str | None,
) -> None:
    """Write the configuration of a bucket, ready for "apachectl configtest".

    WAY is the gateway, or proxy for a <Proxy> section of mod_proxy. On a terminal the command asks for what no option
    says. Questions go to standard error, and the configuration to standard output. A secret key is never an option: it
    is typed, or comes from standard input, and goes into its own file.

    \b
    Examples:
      usp-s3 config gateway
      usp-s3 config proxy --provider aws --bucket films --region eu-central-1 --access-key AKIA...
      usp-s3 config gateway --provider r2 --account 023e105f4ecef8ad9ca31a8372d0c353 --bucket films \\
        --access-key KEY --output /etc/apache2/sites-available/films.conf
      pass show films | usp-s3 config gateway --provider aws --bucket films --region eu-central-1 \\
        --access-key AKIA... --secret-key-from-stdin

    \b
    Exit status:
      0  the configuration was written
      1  nothing was written: a file exists already, or cannot be created
      2  wrong command line: something is missing, or not allowed
    """
    given = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    is_dialog = is_terminal() and not no_input and not secret_key_from_stdin
    questions = Questions(given, is_dialog)
    if output not in {None, "-"}:
        _check_output(Path(str(output)), force)
    try:
        if is_dialog:
            click.echo("Enter accepts the value in brackets, and Ctrl-C ends without writing anything.", err=True)
        answers = collect(way, questions)
        secret = _secret_key(answers, apache_group or "", is_dialog, secret_key_from_stdin)
        target = _output(answers, output, force, is_dialog)
    except click.Abort:
        if questions.answered:
            click.echo(f"\nNothing was written. To go on:\n  {folded(questions.command(way), 2)}", err=True)
        raise
    if target is not None:
        _check_output(target, force)
    again = f" To go on:\n  {folded(questions.command(way), 2)}" if is_dialog else ""
    if secret is not None:
        _create_key_file(answers.secret_key_file, secret, again)
    text = render(answers).encode("utf-8", "surrogateescape")
    if target is None:
        click.echo(text, nl=False)
    else:
        try:
            write(target, text, force)
        except OSError as error:
            raise click.ClickException(f"{target} cannot be written: {error.strerror}.{again}") from None
    if is_dialog:
        _next_steps(answers, target, questions.command(way))
        _offer_check(answers, target)
    else:
        _say_what_is_written(answers, target)


def collect(way: Way, questions: Questions) -> Answers:
    """Return the checked answers of options, questions and defaults. Raises: click.UsageError; click.Abort."""
    if not questions.asks:
        _require_all(questions)
    provider = _provider(questions)
    _reject_other_options(questions, provider)
    bucket = questions.answer(
        "--bucket", "Bucket", partial(checks.bucket, way=way), explanation="The name alone, without a URL."
    )
    signature = questions.answer(
        "--signature",
        "Signature version",
        partial(checks.signature, provider=provider),
        default=provider.signatures[0],
        is_asked=provider.name == "other",
        explanation="v4, or v2 for old servers. A server that accepts both needs v4.",
    )
    region = ""
    if signature == "v4" or provider.names_region:
        region = questions.answer(
            "--region",
            "Region",
            partial(checks.region, provider=provider),
            default=provider.region or None,
            is_asked=provider.region != "auto",
            explanation=provider.region_help,
        )
        if provider.name in {"aws", "aws-role"} and not checks.looks_like_region_of_aws(region):
            click.echo(f"usp-s3: {region} does not look like a region of AWS, such as eu-central-1", err=True)
    elif questions.given.get("--region") is not None:
        raise click.UsageError("--region has no meaning with Signature v2.")
    endpoint = _endpoint(questions, provider, region, way)
    style = questions.answer(
        "--style",
        "path or host",
        partial(checks.style, provider=provider, bucket_name=bucket, endpoint_url=endpoint),
        default=provider.style_for(bucket),
        is_asked=provider.has_own_endpoint and len(provider.styles) > 1 and not checks.is_address(endpoint),
        explanation=f"Is the bucket's name in the path ({endpoint}/bucket/) or in the host?",
    )
    has_private_authority = provider.has_own_endpoint and endpoint.startswith("https:")
    ca_file = questions.answer(
        "--ca-file",
        "CA file",
        optional(checks.file),
        default="",
        is_asked=has_private_authority,
        explanation="If the server's certificate is of a private authority, the PEM file with its root. Else Enter.",
    )
    if ca_file and not endpoint.startswith("https:"):
        raise click.UsageError("--ca-file has no meaning for an http:// endpoint.")
    access_key = ""
    if provider.credentials == "keys":
        explanation = f"{provider.key[0].upper()}{provider.key[1:]}; not a secret."
        access_key = questions.answer("--access-key", "Access key", checks.access_key, explanation=explanation)
    role_arn = questions.answer(
        "--role-arn",
        "Role",
        optional(checks.role_arn),
        default="",
        is_asked=provider.roles == "aws",
        explanation="The ARN of a role to assume, such as arn:aws:iam::123456789012:role/reader. Enter for none.",
    )
    path = questions.answer(
        "--path",
        "Path",
        checks.path,
        default="/media",
        explanation="Where this server serves the bucket: below /media, film/a.mp4 is /media/film/a.mp4.",
    )
    secret_key_file = ""
    if provider.credentials == "keys":
        secret_key_file = questions.answer(
            "--secret-key-file",
            "Secret key file",
            checks.file,
            default=f"{_KEY_DIRECTORY}/{_file_name(bucket)}.secret",
            explanation="The file that contains the secret key and nothing else, now or later.",
        )
    answers = Answers(
        way, provider, endpoint, bucket, style, signature, path, region, access_key, secret_key_file, role_arn, ca_file
    )
    try:
        answers.settings()
    except SettingError as error:
        raise click.UsageError(str(error)) from None
    return answers


def _provider(questions: Questions) -> Provider:
    width = max(map(len, BY_NAME))
    lines = [f"  {number:2} {one.name:<{width}} {one.title}" for number, one in enumerate(PROVIDERS, 1)]
    explanation = "\n".join(["Where is the bucket?", *lines])
    return BY_NAME[
        questions.answer("--provider", "Provider", _provider_name, default=_first(questions), explanation=explanation)
    ]


def _require_all(questions: Questions) -> None:
    """Name all options that are missing where nothing is asked. Raises: click.UsageError."""
    given = {option for option, value in questions.given.items() if value is not None}
    needed = {"--provider": f"one of {_NAMES}", "--bucket": ""}
    if (name := questions.given["--provider"]) is not None:
        try:
            provider = BY_NAME[_provider_name(name)]
        except ValueError:
            return  # its own error says more
        if not provider.region and (questions.given["--signature"] != "v2" or provider.names_region):
            needed["--region"] = ""
        if provider.has_own_endpoint:
            needed["--endpoint"] = f"such as {provider.endpoint_example}"
        if provider.account is not None and "--endpoint" not in given:
            needed["--account"] = provider.account.label
        if provider.credentials == "keys":
            needed["--access-key"] = ""
    missing = [f"{option} ({what})" if what else option for option, what in needed.items() if option not in given]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise click.UsageError(
            f"{', '.join(missing)} {verb} missing. Questions are only asked on a terminal, without --no-input."
        )


def _first(questions: Questions) -> str | None:
    """A default for the question only: without questions the provider must be named."""
    return PROVIDERS[0].name if questions.asks else None


def _provider_name(text: str) -> str:
    names = list(BY_NAME)
    with suppress(ValueError, IndexError):
        return names[int(text) - 1] if int(text) > 0 else text
    if text.strip().lower() not in BY_NAME:
        raise ValueError(f"must be one of {_NAMES}")
    return text.strip().lower()


def _reject_other_options(questions: Questions, provider: Provider) -> None:
    """Reject options that would have no effect. Raises: click.UsageError."""
    has_keys = provider.credentials == "keys"
    without_effect = {
        "--account": provider.account is None or questions.given.get("--endpoint") is not None,
        "--access-key": not has_keys,
        "--secret-key-file": not has_keys,
        "--role-arn": not provider.roles,
    }
    for option, is_useless in without_effect.items():
        if is_useless and questions.given.get(option) is not None:
            reason = " with --endpoint" if option == "--account" and provider.account else ""
            raise click.UsageError(f"{option} has no meaning for the provider {provider.name}{reason}.")


def _endpoint(questions: Questions, provider: Provider, region: str, way: Way) -> str:
    check = partial(checks.endpoint, way=way)
    if provider.has_own_endpoint:
        explanation = f"The URL of the service, without a bucket, such as {provider.endpoint_example}"
        return questions.answer("--endpoint", "Endpoint", check, explanation=explanation)
    if questions.given.get("--endpoint") is not None:
        return questions.answer("--endpoint", "Endpoint", check)
    account = ""
    if provider.account is not None:
        account = questions.answer(
            "--account",
            provider.account.label[0].upper() + provider.account.label[1:],
            partial(checks.account, expected=provider.account),
            explanation=provider.account.where,
        )
    return check(provider.endpoint_in(region, account))


def _file_name(bucket: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", bucket).lstrip(".")[:200] or "bucket"


# --- the secret key


class _Secret(NamedTuple):
    """A secret key to write, and the group that may read the file. The repr does not show it."""

    key: str
    group: int

    def __repr__(self) -> str:
        return "_Secret()"


def _secret_key(answers: Answers, group_name: str, is_dialog: bool, from_stdin: bool) -> _Secret | None:
    """Return the secret key to write, or None. Raises: click.ClickException; click.Abort."""
    if answers.provider.credentials != "keys":
        if from_stdin:
            raise click.UsageError("--secret-key-from-stdin has no meaning for a provider without keys.")
        return None
    file = answers.secret_key_file
    if from_stdin:
        _check_key_file(file)
        try:
            group = key_file.apache_group(group_name)
            return _Secret(checks.secret_key(sys.stdin.read(_MAX_SECRET) if sys.stdin else ""), group)
        except KeyFileError as error:
            raise click.ClickException(str(error)) from None
        except ValueError as error:
            raise click.ClickException(f"the secret key on standard input {error}") from None
    if not is_dialog or os.geteuid() != 0 or os.path.lexists(file):
        return None
    click.echo(f"\n{file} does not exist.", err=True)
    if not confirm("Write the secret key to it now?"):
        return None
    group = _ask_group(group_name)
    while True:
        typed = prompt_hidden("Secret key (not shown)")
        try:
            return _Secret(checks.secret_key(typed), group)
        except ValueError as error:
            click.echo(f"Error: the secret key {error}", err=True)


def _ask_group(name: str) -> int:
    """Return the group that may read the file: the given one, httpd's, or the answer. Raises: click.Abort."""
    try:
        return key_file.apache_group(name)
    except KeyFileError as error:
        click.echo(f"\nApache's group, which may read the file ({error}).", err=True)

    def checked(answer: str) -> str:
        try:
            key_file.apache_group(answer.strip())
        except KeyFileError as error:
            raise ValueError(str(error)) from None
        return answer.strip()

    return key_file.apache_group(prompt("Group", checked, default=key_file.usual_group()))


def _check_key_file(file: str) -> None:
    if os.geteuid() != 0:
        steps = "\n  ".join(key_file.commands(file))
        raise click.ClickException(
            f"only root can give {file} to Apache's group. Run this command as root, or as root:\n  {steps}"
        )
    if os.path.lexists(file):
        raise click.ClickException(f"{file} exists, and is not replaced")


def _create_key_file(path: str, secret: _Secret, again: str) -> None:
    try:
        key_file.create(path, secret.key, secret.group)
    except KeyFileError as error:
        raise click.ClickException(f"{error}; nothing was written.{again}") from None
    click.echo(f"usp-s3: the secret key is in {path}", err=True)


# --- the configuration


def _output(answers: Answers, output: str | None, force: bool, is_dialog: bool) -> Path | None:
    """Return the file to write; None for standard output."""
    if output is None and is_dialog and is_output_shown():
        proposed = _SITES / f"{_file_name(answers.bucket)}.conf"
        is_possible = os.access(_SITES, os.W_OK) and not os.path.lexists(proposed)
        click.echo("\nThe file to write. - prints the configuration here.", err=True)

        def checked(text: str) -> str:
            if text != "-" and os.path.lexists(text) and not force:
                raise ValueError("the file exists, and is not replaced without --force")
            return text

        output = prompt("File", checked, default=str(proposed) if is_possible else "-")
    return None if output in {None, "-"} else Path(str(output))


def _check_output(target: Path, force: bool) -> None:
    if os.path.lexists(target) and not force:
        raise click.ClickException(f"{target} exists, and is not replaced without --force; nothing was written")


def write(target: Path, text: bytes, force: bool) -> None:
    """Write the file for all to read, as it has no secret: a new one, or with ``force`` in the place of an old one.

    Raises: click.ClickException; OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    if not force:
        try:
            descriptor = os.open(target, flags, 0o644)
        except FileExistsError:
            raise click.ClickException(f"{target} exists, and is not replaced without --force") from None
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(text)
        return
    # The old file is complete until the new one is: a link, as in sites-enabled, stays a link.
    try:
        file = trusted_path.resolve(target)
    except UntrustedPathError as error:
        raise click.ClickException(f"{target} is not replaced: {error}") from None
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, flags, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            mode = _own_mode(file)
            if mode is not None:
                os.fchmod(descriptor, mode)
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _own_mode(file: Path) -> int | None:
    """Return the mode of a file, None if it is not the caller's: others do not decide who may write the new one."""
    try:
        status = file.lstat()
    except FileNotFoundError:
        return None
    is_own = stat.S_ISREG(status.st_mode) and status.st_uid in {0, os.geteuid()}
    return stat.S_IMODE(status.st_mode) if is_own else None


# --- what to do next


def _say_what_is_written(answers: Answers, target: Path | None) -> None:
    if target is not None:
        click.echo(f"usp-s3: the configuration is in {target.absolute()}", err=True)
    file = answers.secret_key_file
    if file and not os.path.lexists(file):
        click.echo(f"usp-s3: {file} does not exist yet: it must contain the secret key", err=True)


def _next_steps(answers: Answers, target: Path | None, same_command: str) -> None:
    """Say on standard error what is left to do."""
    steps = []
    file = answers.secret_key_file
    if file and not os.path.lexists(file):
        lines = [folded(line, 5) for line in key_file.commands(file, key_file.usual_group() or "www-data")]
        steps.append("\n     ".join(["As root, store the secret key:", *lines]))
    if answers.provider.credentials == "aws" or answers.role_arn:
        steps.append("Install botocore: in the clone, /opt/usp_s3_wsgi/bin/pip install '.[aws]'")
    where = str(target.absolute()) if target else "the lines above"
    if target is not None and target.absolute().parent == _SITES:
        steps.append(f"Enable the site: a2ensite {target.stem} (or include {where} in a virtual host)")
    else:
        steps.append(f"Put {where} into the virtual host that should serve {answers.path}")
    if answers.ca_file:
        steps.append(f"Let Apache's user read {answers.ca_file}")
    modules = "proxy_http and ssl" if answers.is_https else "proxy_http"
    if answers.way == "proxy":
        steps.append(f"Load {modules}: a2enmod {modules.replace(' and', '')}")
    steps.append("Check and reload: apachectl configtest && apachectl graceful")
    steps.append(f"Check the bucket: usp-s3 check --bucket {shlex.quote(answers.path)}")
    steps = [step if "\n" in step else wrapped(step, 5) for step in steps]
    lines = [f"  {number}. {step}" for number, step in enumerate(steps, 1)]
    repeated = ["", "The same without questions:", f"  {folded(f'{same_command} --no-input', 2)}"]
    click.echo("\n".join(["", "Next:", *lines, *repeated]), err=True)


def _offer_check(answers: Answers, target: Path | None) -> None:
    """Run ``usp-s3 check`` if the user wants it."""
    if target is None:
        return
    click.echo("\nHave you included the file in httpd's configuration?", err=True)
    if confirm("Run usp-s3 check now?"):
        from usp_s3_wsgi.cli.check import command as check

        try:
            check.command.main(["--bucket", answers.path], prog_name="usp-s3 check", standalone_mode=False)
        except click.ClickException as error:
            console.print_error(error)

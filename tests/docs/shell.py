"""Commands of the documentation: run in a scratch folder, and compared with the output that the page shows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.docs.blocks import Block

#: The time limit of a block, in seconds.
LIMIT = 60
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
#: Variables that name the authorities which OpenSSL, requests and curl trust.
AUTHORITIES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROMPT = "$ "
HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
#: Ends the output of each command, with its exit status.
END = "\x1e"
#: Commands that change the machine. They run on minimal machines only, with the key fresh.
FORBIDDEN = re.compile(
    r"(?<![\w./-])(?:sudo|apt|apt-get|dpkg|a2(?:en|dis)(?:mod|conf|site)|systemctl|service|useradd|adduser|usermod|reboot|"
    r"docker|podman|kubectl|mount|kill|pkill|killall|make|git)(?![\w./=-])"
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and the output that the page shows for it; None if the page shows none."""

    text: str
    output: str | None


def commands_of(block: Block) -> list[Command]:
    """The commands of a block in the language console or sh. Raises: ValueError."""
    if block.language == "console":
        return list(console_commands(block.text))
    return [Command(text, None) for text in script_commands(block.text)]


def console_commands(text: str) -> Iterator[Command]:
    """Yield the commands and outputs of a block in the language console. Raises: ValueError."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith(PROMPT):
        raise ValueError(f"a console block begins with {PROMPT!r} and a command")
    while lines:
        lines[0] = lines[0].removeprefix(PROMPT)
        command = next_command(lines)
        output = []
        while lines and not lines[0].startswith(PROMPT):
            output.append(lines.pop(0))
        yield Command(command, "".join(f"{line}\n" for line in output))


def script_commands(text: str) -> Iterator[str]:
    """Yield the commands of a script as a reader types them, one after the other. Raises: ValueError."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    while lines:
        yield next_command(lines)


def next_command(lines: list[str]) -> str:
    """Remove a command from the lines, with the lines that continue it, and return it. Raises: ValueError."""
    command = lines.pop(0)
    while not is_complete(command):
        if not lines:
            raise ValueError(f"the command {command!r} is not complete")
        command += "\n" + lines.pop(0).removeprefix("> ")
    return command


def is_complete(command: str) -> bool:
    """Whether a shell would run these lines, and not wait for more."""
    if heredoc := HEREDOC.search(command):
        return command.endswith(f"\n{heredoc[2]}")
    if command.endswith("\\"):
        return False
    checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, timeout=10, check=False)
    return not re.search("unexpected end of file|unexpected EOF", checked.stderr)


def matches(documented: str, actual: str) -> bool:
    """Whether a documented output is that of a command.

    ``...`` is any text within a line, and on a line of its own any number of lines.
    """
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else r".*".join(map(re.escape, line.rstrip().split("..."))) + r"[ \t]*\n"
        for line in documented.splitlines()
    )
    return re.fullmatch(pattern, actual if not actual or actual.endswith("\n") else f"{actual}\n") is not None


def run_script(text: str, folder: Path, *shell: str, path: str = "") -> tuple[int, str]:
    """Run a script in a folder; returns its exit status and its output. Raises: TimeoutError.

    ``path``: a folder that precedes the others in PATH.
    """
    folders = [*([path] if path else []), str(Path(sys.executable).parent), SYSTEM_PATH]
    environment = {"PATH": ":".join(folders), "HOME": str(folder), "LANG": "C.UTF-8", "TERM": "dumb"}
    environment |= {name: os.environ[name] for name in AUTHORITIES if name in os.environ}
    process = subprocess.Popen(
        [*shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        cwd=folder, env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(text, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"not finished within {LIMIT} seconds") from None
    finally:
        with suppress(ProcessLookupError):  # also what the script has left in the background
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode, output


def with_input(command: str, given: str) -> str:
    """A command in the current shell, with this line as its input, or with none."""
    group = f"{{\n{command.rstrip()}\n}}"
    return f"{group} <<'END_OF_INPUT'\n{given}\nEND_OF_INPUT\n" if given else f"{group} </dev/null\n"


def run_commands(texts: list[str], folder: Path, path: str = "", given: str = "") -> list[tuple[int, str]]:
    """Run commands in one shell, each with this line as its input; returns exit status and output of each."""
    script = "".join(f"{with_input(text, given)}printf '{END}%s{END}' $?\n" for text in texts)
    _, output = run_script(script, folder, "bash", path=path)
    parts = output.split(END)
    return [(int(status), text) for text, status in zip(parts[::2], parts[1::2], strict=False)]

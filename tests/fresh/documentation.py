"""The commands of the documentation, word by word, as root on a minimal machine.

The blocks whose comment has ``fresh=NAME`` run in the order of the pages, in one shell and in a clone of this
repository, as a reader types them. A block with ``file=PATH`` is written to that file. The output of a console block is
compared with the page. The first block that fails ends the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tests.docs.blocks import Block, all_blocks
from tests.docs.pages import EXAMPLE, name
from tests.docs.shell import commands_of, matches, with_input
from tests.fresh.machine import IMAGE

CLONE = "/root/usp_s3_wsgi"
#: Answers the questions of apt-get. Unlike a container, the machine starts a service after its installation.
PREPARATION = (
    "rm -f /usr/sbin/policy-rc.d && echo 'APT::Get::Assume-Yes \"true\";' > /etc/apt/apt.conf.d/90yes && "
    f"git clone -q /clone.bundle {CLONE}"
)
#: httpd accepts these faults, but the documentation must not cause them: an undefined variable, a second mod_wsgi.
FAULTS = re.compile("AH00111|AH01574")
#: After these commands httpd must answer on port 80, which it may need a moment for.
STARTS = re.compile(r"\b(?:apachectl|apache2ctl|httpd -k) (?:start|restart|graceful)(?![\w-])")
ANSWERS = """\
(for try in {1..50}; do
  exec 3<>/dev/tcp/127.0.0.1/80 && printf 'HEAD / HTTP/1.0\\r\\n\\r\\n' >&3 &&
    read -r line <&3 && [[ $line == HTTP/* ]] && exit
  sleep 0.1
done; exit 97) 2>/dev/null
[ $? = 0 ] || { echo "httpd does not answer on port 80"; exit 97; }
"""
#: In the output: the begin of a step, and the end of all, with the exit status.
BEGIN, END = "\x1e", "\x1d"


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a block, with the documented ``output`` in a console block. ``text`` is what the shell gets."""

    block: Block
    text: str
    output: str | None = None


def fresh_blocks() -> list[Block]:
    """The blocks that run on minimal machines."""
    return [block for block in all_blocks() if "fresh" in block.keys and block.file != name(EXAMPLE)]


def names_for(suite: str) -> list[str]:
    """The names of the machines to test with this suite: those of the httpd image begin with its name."""
    names = dict.fromkeys(block.keys["fresh"] for block in fresh_blocks())
    return [one for one in names if one.startswith(IMAGE) == (suite == IMAGE)]


def steps_of(blocks: Iterable[Block], machine: str) -> list[Step]:
    """The steps of the machine with this name."""
    steps: list[Step] = []
    for block in blocks:
        if block.keys.get("fresh") != machine:
            continue
        if file := block.keys.get("file"):
            write = f"cat > {file} <<'END_OF_FILE'\n{block.text}END_OF_FILE"
            steps.append(Step(block, f'mkdir -p "$(dirname {file})"\n{write}'))
        else:
            steps += [Step(block, command.text, command.output) for command in commands_of(block)]
    return steps


def script(steps: Iterable[Step]) -> str:
    """The script of these steps, which stops at the first that fails. A block's ``status`` is not a failure."""
    lines = [f"trap 'printf \"{END}%s\\n\" $?' EXIT\n"]
    for step in steps:
        allowed = "|".join(["0", *step.block.keys.get("status", "").split()])
        # In the same shell: a later block finds its folder, umask and variables.
        lines.append(f"printf '{BEGIN}'\n{with_input(step.text, step.block.keys.get('input', ''))}")
        lines.append(f"status=$?; case $status in {allowed}) ;; *) exit $status ;; esac\n")
        lines.append(ANSWERS if STARTS.search(step.text) else "")
    return "".join(lines) + "exit 0\n"


def result(steps: list[Step], output: str) -> tuple[int, str]:
    """How many steps succeeded, and why the next one did not; empty if all did."""
    begun, _, status = output.partition(END)
    texts = begun.split(BEGIN)[1:]
    for number, (step, text) in enumerate(zip(steps, texts, strict=False)):
        if number == len(texts) - 1 and status.strip() != "0":
            return number, f"{step.block.id}: {step.text!r}: exit status {status.strip() or 'unknown'}"
        if fault := FAULTS.search(text):
            return number, f"{step.block.id}: {fault[0]} in the output"
        if step.output is not None and not matches(step.output, text):
            return number, f"{step.block.id}: the output is not the documented one"
    return len(texts), "" if len(texts) == len(steps) else "the shell did not run all steps"

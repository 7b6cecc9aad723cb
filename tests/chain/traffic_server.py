"""Run Traffic Server with its files from a folder of apache/chain."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.chain.programs import WAIT, Program, localized
from tests.httpd.machine import apache_user, find_program
from tests.traffic_server import FOLDERS, IP_ALLOW, run_root


class TrafficServer(Program):
    """Traffic Server with a folder of files for /etc/trafficserver, run by its manager as Debian's service does."""

    program = "traffic_manager"

    def __init__(self, folder: Path, replacements: Mapping[str, str], *, port: int = 0) -> None:
        super().__init__(folder, replacements, port=port)
        #: The files as they are shipped, and changed by a test before the start.
        self.files = {file.name: file.read_text() for file in sorted(folder.iterdir())}

    def command(self) -> list[str]:
        for folder in (self.root, *(self.root / name for name in FOLDERS)):
            folder.mkdir(exist_ok=True)
            if os.geteuid() == 0:
                shutil.chown(folder, apache_user().pw_name)
        run_root(self.root)
        (self.root / "etc" / "ip_allow.yaml").write_text(IP_ALLOW)
        for name, text in self._localized_files().items():
            (self.root / "etc" / name).write_text(text)
        return [find_program(self.program)]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **run_root(self.root)}

    def log(self) -> str:
        files = (file for file in sorted((self.root / "log").glob("*")) if file.is_file())
        return "\n".join([super().log(), *(file.read_text(errors="replace") for file in files)])

    def control(self, *arguments: str) -> str:
        """Run traffic_ctl, and return what it prints."""
        done = subprocess.run(
            [find_program("traffic_ctl"), *arguments], check=True, capture_output=True, text=True, timeout=WAIT,
            env=self.environment(),
        )  # fmt: skip
        return done.stdout

    def _localized_files(self) -> dict[str, str]:
        """The files with the addresses and folders of the test; each replacement must be in one of them."""
        (listen,) = re.findall(r"(?<=server_ports STRING ).*", self.files["records.config"])
        own = {
            "records.config": {
                listen: f"{self.port}:ip-in=127.0.0.1",
                "admin.user_id STRING trafficserver": f"admin.user_id STRING {apache_user().pw_name}",
            },
            "storage.config": {"/var/cache/trafficserver 10G": f"{self.root}/cache 256M"},
        }
        texts = {name: localized(text, own.get(name, {})) for name, text in self.files.items()}
        for old, new in self._replacements.items():
            assert any(old in text for text in texts.values()), f"{old!r} is in none of the files"
            texts = {name: text.replace(old, new) for name, text in texts.items()}
        return texts

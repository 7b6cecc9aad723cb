"""``rclone serve s3`` of a local folder."""

from __future__ import annotations

from tests.httpd.machine import free_port
from tests.servers.program import Program


class Rclone(Program):
    """All users are allowed everything."""

    name = "rclone"
    program = "rclone"

    def version(self) -> str:
        return self.output_of("version").split()[1].removeprefix("v")

    def start(self) -> None:
        (self.root / "data").mkdir()
        (self.root / "rclone.conf").touch()
        pairs = ",".join(f'"{keys.access_key},{keys.secret_key}"' for keys in (self.keys, self.other_keys))
        port = free_port()
        self.launch(
            port, "serve", "s3", f"--addr={self.address}:{port}", f"--config={self.root}/rclone.conf",
            f"--cache-dir={self.root}/cache", f"{self.root}/data",
            environment={"RCLONE_AUTH_KEY": pairs},
        )  # fmt: skip

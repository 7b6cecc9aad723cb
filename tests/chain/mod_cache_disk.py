"""An httpd of its own with mod_cache_disk, as a shield."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.chain.programs import Program
from tests.httpd.machine import (
    apache_user,
    has_module,
    httpd_binary,
    httpd_environment,
    media_types,
    modules_directory,
)

#: Those that Debian compiles into httpd are in no file.
STATIC = ("unixd", "log_config")
MODULES = "mpm_event authn_core authz_core authz_host mime headers setenvif proxy proxy_http cache cache_disk".split()


class ModCacheDisk(Program):
    """httpd with a file for its sites-available folder."""

    program = "apache2"

    def __init__(self, file: Path, replacements: Mapping[str, str], *, port: int = 0) -> None:
        super().__init__(file, replacements, port=port)
        self.cache = self.root / "cache"
        (self.cache / "locks").mkdir(parents=True)
        for folder in (self.cache, self.cache / "locks"):
            folder.chmod(0o777)

    @classmethod
    def missing(cls) -> str:
        absent = [name for name in MODULES if not has_module(name)]
        return f"this httpd has no {', '.join(absent)}" if absent else ""

    def environment(self) -> dict[str, str]:
        return httpd_environment()

    def command(self) -> list[str]:
        names = (*MODULES, *filter(has_module, STATIC))
        modules = "\n".join(f'LoadModule {name}_module "{modules_directory()}/mod_{name}.so"' for name in names)
        user = f"User {apache_user().pw_name}\nGroup #{apache_user().pw_gid}\n" if os.geteuid() == 0 else ""
        own = {"*:80": f"127.0.0.1:{self.port}", "/var/cache/apache2/mod_cache_disk": str(self.cache)}
        config = self.root / "httpd.conf"
        config.write_text(
            f'ServerRoot "{self.root}"\nServerName 127.0.0.1\nPidFile httpd.pid\nDefaultRuntimeDir .\nMutex file:.\n'
            f"Listen 127.0.0.1:{self.port}\nListenBacklog 4096\n{modules}\n{user}ErrorLog error.log\n"
            "LogLevel warn authz_core:trace8 setenvif:trace8\n"  # what an operator sees who looks for a denied request
            f'LogFormat "%h %l %u %t \\"%r\\" %>s %O \\"%{{Referer}}i\\" \\"%{{User-Agent}}i\\"" combined\n'
            f'CustomLog access.log combined\nTypesConfig "{media_types()}"\n{self.localized_file(own)}'
        )
        return [httpd_binary(), "-f", str(config), "-DFOREGROUND"]

"""Become the user of httpd's children, whose permissions decide which files can be read."""

from __future__ import annotations

import os
import pwd

from usp_s3_wsgi.configtest.parsed_config import Configuration


def drop_privileges(configuration: Configuration) -> None:
    """Become the user of httpd's children, as httpd does (``ap_unixd_setup_child``), before any file is opened.

    Nothing happens in a process that is not root.
    """
    if os.getuid() != 0:
        return
    if configuration.chroot:
        os.chroot(configuration.chroot)
        os.chdir("/")
    try:
        name = configuration.user_name.removeprefix("#")
        user = pwd.getpwuid(int(name)).pw_name if name.isdigit() else name
        os.initgroups(user, configuration.gid)
    except (KeyError, OSError):
        os.setgroups([configuration.gid])
    os.setgid(configuration.gid)
    os.setuid(configuration.uid)

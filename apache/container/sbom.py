"""Print the list of what is in the image (SBOM) in CycloneDX's JSON format: packages of Debian and Python, httpd.

    sbom.py VENV DEBIAN_PACKAGES     the virtual environment, and the output of dpkg-query as in the Dockerfile

It runs in an environment of its own with cyclonedx-bom, whose cyclonedx-py lists Python's packages. The result is
validated against the format's schema. https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

HTTPD = "/usr/local/apache2/bin/httpd"


def main() -> None:
    """Print the SBOM, or exit with the validator's error."""
    venv, packages = Path(sys.argv[1]), Path(sys.argv[2])
    bom = python_packages(venv)
    own = next(component for component in bom.components if component.name == "usp_s3_wsgi")
    bom.metadata.component = Component(
        name="usp_s3_wsgi", version=own.version, type=ComponentType.CONTAINER, bom_ref="image"
    )
    own.purl = PackageURL("pypi", name="usp-s3-wsgi", version=own.version)
    system = debian()
    bom.components.update([system, httpd(), *debian_packages(packages.read_text(), system)])
    bom.register_dependency(bom.metadata.component, bom.components)
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"sbom.py: {error}")
    print(text)


def python_packages(venv: Path) -> Bom:
    """The packages of a virtual environment."""
    tool = Path(sys.executable).with_name("cyclonedx-py")
    options = ["--output-reproducible", "--output-format", "JSON"]
    command = [str(tool), "environment", *options, str(venv / "bin" / "python")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300, check=True)
    bom = Bom.from_json(json.loads(done.stdout))
    assert isinstance(bom, Bom)
    return bom


def debian() -> Component:
    """The system, by which scanners know whose advisories apply."""
    text = Path("/etc/os-release").read_text()
    values = dict(re.findall(r'^(\w+)="?([^"\n]*)', text, re.MULTILINE))
    return Component(
        name=values["ID"], version=values["VERSION_ID"], type=ComponentType.OPERATING_SYSTEM, bom_ref="operating-system"
    )


def httpd() -> Component:
    """The base image's httpd, which is no Debian package."""
    text = subprocess.run([HTTPD, "-v"], stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout
    (version,) = re.findall(r"Apache/([0-9.]+)", text)
    purl = PackageURL("generic", name="httpd", version=version)
    cpe = f"cpe:2.3:a:apache:http_server:{version}:*:*:*:*:*:*:*"
    return Component(
        name="httpd", version=version, type=ComponentType.APPLICATION, purl=purl, cpe=cpe, bom_ref=str(purl)
    )


def debian_packages(table: str, system: Component) -> Iterator[Component]:
    """The components for lines of package, version, architecture and source package, separated by tabs."""
    for line in table.splitlines():
        name, version, architecture, source = line.split("\t")
        qualifiers = {"arch": architecture, "distro": f"{system.name}-{system.version}"}
        if source != name:
            qualifiers["upstream"] = source
        purl = PackageURL("deb", "debian", name, version, qualifiers)
        yield Component(name=name, version=version, purl=purl, bom_ref=str(purl))


if __name__ == "__main__":
    main()

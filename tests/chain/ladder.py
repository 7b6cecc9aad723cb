"""A film in three renditions, made by ffmpeg when it is needed, and the same film as HLS and DASH without a packager.

The keys in the bucket, below ``LADDER``: ``180p.mp4``, ``360p.mp4``, ``540p.mp4`` (for a packager), and in ``plain/``
the playlists, the manifest and the segments that ffmpeg makes of these files.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.s3 import EmbeddedS3

#: The folder of the keys.
LADDER = "ladder"
CACHE = Path(__file__).resolve().parents[2] / "build" / "chain"
FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf")
SECONDS, SEGMENT_SECONDS, RATE = 40, 2, 25
TYPES = {
    ".mp4": "video/mp4",
    ".m4s": "video/iso.segment",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
}


@dataclass(frozen=True, slots=True)
class Rendition:
    """``rate``: kbit/s of the picture."""

    name: str
    width: int
    height: int
    rate: int


RENDITIONS = (
    Rendition("180p", 320, 180, 200),
    Rendition("360p", 640, 360, 700),
    Rendition("540p", 960, 540, 1800),
)
#: What a packager makes of all renditions, below its own path; and the same as objects.
PACKAGED = f"{LADDER}/{','.join(one.name for one in RENDITIONS)}"
PLAIN = f"{LADDER}/plain"


def missing() -> str:
    """Why the ladder cannot be made here; empty if it can."""
    if not shutil.which("ffmpeg"):
        return "ffmpeg is not installed"
    return "" if FONT.exists() else f"{FONT} is missing: install fonts-dejavu-core"


def made() -> dict[str, Path]:
    """Return the file of each key; they are made if ``CACHE`` has none, which takes half a minute.

    Raises: RuntimeError: ffmpeg fails.
    """
    # The folder's name has the commands: other ones make another folder.
    commands = [_encode(one) for one in RENDITIONS] + [_package()]
    name = "ladder-" + hashlib.sha256("\0".join(map(" ".join, commands)).encode()).hexdigest()[:12]
    folder = CACHE / name
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="ladder.new-") as new:
            work = Path(new, LADDER)
            (work / "plain").mkdir(parents=True)
            for command in commands:
                done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=300, check=False)
                if done.returncode:
                    raise RuntimeError(f"ffmpeg fails:\n{done.stderr[-2000:]}")
            try:
                work.parent.rename(folder)
            except OSError:  # another process was faster
                assert folder.exists()
            else:
                Path(new).mkdir()
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.*")) if path.is_file()}


def upload(s3: EmbeddedS3, bucket: str) -> dict[str, Path]:
    """Store the ladder in a bucket, and return the file of each key. No object has Cache-Control."""
    files = made()
    for key, path in files.items():
        s3.put(bucket, key, path, content_type=TYPES[path.suffix])
    return files


def _encode(rendition: Rendition) -> list[str]:
    """The command for a rendition: a moving picture with the time and the rendition's name, and a beep each second.

    Key frames are at the same times in all renditions. The index (moov) is in front. The same ffmpeg gives the same
    bytes each time.
    """
    box = f"fontfile={FONT}:fontcolor=white:box=1:boxcolor=black:boxborderw=6:fontsize=h/9"
    picture = (
        f"testsrc2=size={rendition.width}x{rendition.height}:rate={RATE}:duration={SECONDS},"
        f"drawtext={box}:text='{rendition.name}':x=w*0.06:y=h*0.62,"
        f"drawtext={box}:timecode='00\\:00\\:00\\:00':rate={RATE}:x=w*0.06:y=h*0.8,setsar=1"
    )
    sound = f"sine=frequency=330:beep_factor=3:sample_rate=48000:duration={SECONDS}"
    keys = SEGMENT_SECONDS * RATE
    return [
        *"ffmpeg -hide_banner -loglevel error -nostdin -y".split(),
        "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-t", str(SECONDS),
        *"-c:v libx264 -profile:v main -preset veryfast -threads 2 -pix_fmt yuv420p".split(),
        "-b:v", f"{rendition.rate}k", "-maxrate", f"{rendition.rate * 11 // 10}k", "-bufsize", f"{rendition.rate}k",
        "-x264-params", f"keyint={keys}:min-keyint={keys}:scenecut=0:open-gop=0",
        *"-c:a aac -b:a 64k -ac 2 -map_metadata -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact".split(),
        "-movflags", "+faststart", f"{rendition.name}.mp4",
    ]  # fmt: skip


def _package() -> list[str]:
    """The command for HLS and DASH with the same fMP4 segments; the sound is that of the first rendition."""
    inputs = [word for one in RENDITIONS for word in ("-i", f"{one.name}.mp4")]
    maps = [word for index in range(len(RENDITIONS)) for word in ("-map", f"{index}:v")] + ["-map", "0:a"]
    return [
        *"ffmpeg -hide_banner -loglevel error -nostdin -y".split(), *inputs, *maps,
        *"-c copy -fflags +bitexact -f dash -use_template 1 -use_timeline 1 -hls_playlist 1".split(),
        "-seg_duration", str(SEGMENT_SECONDS), "-adaptation_sets", "id=0,streams=v id=1,streams=a",
        "-hls_master_name", "main.m3u8", "plain/manifest.mpd",
    ]  # fmt: skip

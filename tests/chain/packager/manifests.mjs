// Playlists (HLS) and the manifest (DASH). Both name the same segments.
//
// URLs of segments: FOLDER/NAME/VERSION/video-1.m4s. A playlist at FOLDER/NAME,NAME/main.m3u8 says ../NAME/VERSION/...

const XML = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const xml = (text) => String(text).replace(/[&<>"]/g, (character) => XML[character]);

/** A rendition: { name, movie }. The sound is that of the first one: all have the same, and the first one is the smallest. */
const withSound = (renditions) => renditions.find(({ movie }) => movie.tracks.audio);

const url = (name) => name.split('/').map(encodeURIComponent).join('/');

export function mainPlaylist(renditions) {
  const sound = withSound(renditions);
  const audio = sound?.movie.tracks.audio;
  const lines = ['#EXTM3U', '#EXT-X-VERSION:7', '#EXT-X-INDEPENDENT-SEGMENTS'];
  if (audio) {
    const language = audio.language ? `,LANGUAGE="${audio.language}"` : '';
    lines.push(
      `#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="audio"${language},DEFAULT=YES,AUTOSELECT=YES,` +
        `CHANNELS="${audio.channels}",URI="../${url(sound.name)}/audio.m3u8"`,
    );
  }
  for (const { name, movie } of renditions) {
    const { video } = movie.tracks;
    const codecs = [video.codec, ...(audio ? [audio.codec] : [])].join(',');
    lines.push(
      `#EXT-X-STREAM-INF:BANDWIDTH=${video.peakRate + (audio?.peakRate ?? 0)},` +
        `AVERAGE-BANDWIDTH=${video.averageRate + (audio?.averageRate ?? 0)},CODECS="${codecs}",` +
        `RESOLUTION=${video.width}x${video.height},FRAME-RATE=${video.frameRate.toFixed(3)}${audio ? ',AUDIO="audio"' : ''}`,
      `../${url(name)}/video.m3u8`,
    );
  }
  return `${lines.join('\n')}\n`;
}

export function mediaPlaylist({ movie }, kind) {
  const track = movie.tracks[kind];
  const longest = Math.max(...track.segments.map((segment) => segment.duration));
  const lines = [
    '#EXTM3U',
    '#EXT-X-VERSION:7',
    `#EXT-X-TARGETDURATION:${Math.max(1, Math.round(longest))}`,
    '#EXT-X-PLAYLIST-TYPE:VOD',
    '#EXT-X-INDEPENDENT-SEGMENTS',
    `#EXT-X-MAP:URI="${movie.version}/${kind}-init.mp4"`,
  ];
  track.segments.forEach((segment, index) => {
    lines.push(`#EXTINF:${segment.duration.toFixed(6)},`, `${movie.version}/${kind}-${index + 1}.m4s`);
  });
  return `${lines.join('\n')}\n#EXT-X-ENDLIST\n`;
}

export function dashManifest(renditions) {
  const sound = withSound(renditions);
  const duration = Math.max(...renditions.map(({ movie }) => movie.duration));
  const videos = renditions.map((rendition) => representation(rendition, 'video'));
  const lines = [
    '<?xml version="1.0" encoding="utf-8"?>',
    `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" ` +
      `mediaPresentationDuration="PT${duration.toFixed(3)}S" minBufferTime="PT2S">`,
    '<Period id="0" start="PT0S">',
    '<AdaptationSet id="0" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">',
    ...videos,
    '</AdaptationSet>',
  ];
  if (sound) {
    const { language } = sound.movie.tracks.audio;
    lines.push(
      `<AdaptationSet id="1" contentType="audio" mimeType="audio/mp4" segmentAlignment="true" startWithSAP="1"` +
        `${language ? ` lang="${xml(language)}"` : ''}>`,
      representation(sound, 'audio'),
      '</AdaptationSet>',
    );
  }
  lines.push('</Period>', '</MPD>');
  return `${lines.join('\n')}\n`;
}

function representation({ name, movie }, kind) {
  const track = movie.tracks[kind];
  const shown =
    kind === 'video'
      ? `width="${track.width}" height="${track.height}" frameRate="${frameRate(track)}"`
      : `audioSamplingRate="${track.sampleRate}"`;
  const entries = track.segments.map((segment) => {
    const start = Math.round(segment.time * track.timescale);
    const end = Math.round((segment.time + segment.duration) * track.timescale);
    return `<S t="${start}" d="${end - start}"/>`;
  });
  const channels =
    kind === 'audio'
      ? `<AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011" value="${track.channels}"/>`
      : '';
  return [
    `<Representation id="${xml(name)}-${kind}" bandwidth="${track.peakRate}" codecs="${xml(track.codec)}" ${shown}>`,
    channels,
    `<BaseURL>../${xml(url(name))}/${movie.version}/</BaseURL>`,
    `<SegmentTemplate timescale="${track.timescale}" startNumber="1" initialization="${kind}-init.mp4" media="${kind}-$Number$.m4s">`,
    `<SegmentTimeline>${entries.join('')}</SegmentTimeline>`,
    '</SegmentTemplate>',
    '</Representation>',
  ]
    .filter(Boolean)
    .join('\n');
}

/** As a fraction of whole numbers. */
function frameRate(track) {
  const [{ duration }] = track.samples;
  const divisor = (a, b) => (b ? divisor(b, a % b) : a);
  const common = divisor(track.timescale, duration);
  return duration === common ? String(track.timescale / common) : `${track.timescale / common}/${duration / common}`;
}

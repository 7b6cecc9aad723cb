// Plays a ladder with hls.js, dash.js or shaka-player, without adaptation: a test says which rendition is shown.
//
// window.chain:
//   start(), seek(seconds), switchTo(index)   0 is the rendition with the lowest bandwidth
//   state()      { time, width, ended, seeking, ... }: width is that of the picture that is shown
//   errors       what the player has reported; what it has mended itself is in "warnings"
//   fetched      [{ url, status, bytes, sha256 }]: each media file as the player has got it, whole

const LIBRARIES = {
  'hls.js': 'node_modules/hls.js/dist/hls.min.js',
  'dash.js': 'node_modules/dashjs/dist/modern/umd/dash.all.min.js',
  'shaka-player': 'node_modules/shaka-player/dist/shaka-player.compiled.js',
};
/** Seconds that a player loads ahead. Little, so that a switch is soon seen. */
const AHEAD = 5;
const parameters = new URLSearchParams(location.search);
/** The rendition to begin with; only hls.js has another one than 0. */
const level = Number(parameters.get('level') ?? 0);
const video = document.getElementById('video');
const chain = { ready: false, pending: 0, errors: [], warnings: [], fetched: [] };
window.chain = chain;

// --- what the player fetches, whatever it fetches it with

async function record(url, status, buffer) {
  chain.pending += 1;
  const bytes = buffer.byteLength;
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', buffer));
  const sha256 = [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  chain.fetched.push({ url, status, bytes, sha256 });
  chain.pending -= 1;
}

window.XMLHttpRequest = class extends XMLHttpRequest {
  constructor() {
    super();
    // Before the player's own listener, which may hand the buffer over to a worker.
    this.addEventListener('readystatechange', () => {
      if (this.readyState === 4 && this.response instanceof ArrayBuffer && this.status) {
        record(this.responseURL, this.status, this.response.slice(0));
      }
    });
  }
};

const fetchOriginal = window.fetch;
window.fetch = async (...request) => {
  const response = await fetchOriginal(...request);
  if (/(mp4|iso\.segment)$/.test(response.headers.get('Content-Type') ?? '')) {
    const copy = response.clone();
    chain.pending += 1;
    copy
      .arrayBuffer()
      .then((buffer) => record(response.url, response.status, buffer))
      .catch(() => {}) // the player has given this request up
      .finally(() => (chain.pending -= 1));
  }
  return response;
};

// --- the players

const PLAYERS = {
  'hls.js'(url) {
    const hls = new Hls({ startLevel: level, maxBufferLength: AHEAD, maxMaxBufferLength: AHEAD });
    hls.on(Hls.Events.ERROR, (_, { type, details, fatal, error, frag }) => {
      const text = `${type} ${details} ${error?.message ?? ''} ${frag ? `${frag.type} ${frag.level}/${frag.sn}` : ''}`;
      // Requests that it gives up itself, for a switch or a seek; stalls; and segments that it already has.
      const harmless = /^(aborted|internalAborted|bufferStalledError|bufferNudgeOnStall|bufferSeekOverHole|bufferAppendNoProgress)$/;
      (!fatal && harmless.test(details) ? chain.warnings : chain.errors).push(text);
    });
    hls.on(Hls.Events.MANIFEST_PARSED, () => (hls.loadLevel = level));
    hls.loadSource(url);
    hls.attachMedia(video);
    chain.switchTo = (index) => (hls.nextLevel = index);
    chain.version = Hls.version;
  },
  'dash.js'(url) {
    const player = dashjs.MediaPlayer().create();
    player.updateSettings({
      streaming: {
        abr: { autoSwitchBitrate: { video: false, audio: false }, initialBitrate: { video: 1 } },
        buffer: { bufferTimeDefault: AHEAD, bufferTimeAtTopQuality: AHEAD, bufferTimeAtTopQualityLongForm: AHEAD },
      },
    });
    for (const event of [dashjs.MediaPlayer.events.ERROR, dashjs.MediaPlayer.events.PLAYBACK_ERROR]) {
      player.on(event, ({ error }) => chain.errors.push(`${error?.code} ${error?.message}`));
    }
    player.initialize(video, url, false);
    chain.switchTo = (index) => {
      const order = player.getRepresentationsByType('video').sort((a, b) => a.bandwidth - b.bandwidth);
      player.setRepresentationForTypeById('video', order[index].id);
    };
    chain.version = player.getVersion();
  },
  async 'shaka-player'(url) {
    shaka.polyfill.installAll();
    const player = new shaka.Player();
    player.addEventListener('error', ({ detail }) => chain.errors.push(`${detail.code} ${detail.message}`));
    await player.attach(video);
    player.configure({
      abr: { enabled: false, useNetworkInformation: false, defaultBandwidthEstimate: 1 },
      streaming: { bufferingGoal: AHEAD, rebufferingGoal: 1 },
    });
    await player.load(url);
    chain.switchTo = (index) => {
      const tracks = player.getVariantTracks().sort((a, b) => a.bandwidth - b.bandwidth);
      player.selectVariantTrack(tracks[index], true);
    };
    chain.version = shaka.Player.version;
  },
};

chain.start = (rate = 1) => {
  video.playbackRate = rate;
  return video.play().then(() => true);
};
chain.seek = (seconds) => (video.currentTime = seconds);
chain.state = () => ({
  time: video.currentTime,
  duration: video.duration,
  width: video.videoWidth,
  ended: video.ended,
  paused: video.paused,
  seeking: video.seeking,
  ready: video.readyState,
  errors: chain.errors,
  warnings: chain.warnings,
  fetched: chain.fetched.length,
  buffered: [...Array(video.buffered.length).keys()].map((at) => [video.buffered.start(at), video.buffered.end(at)]),
});
video.addEventListener('error', () => chain.errors.push(`${video.error.code} ${video.error.message}`));
window.addEventListener('error', ({ message }) => chain.errors.push(message));
window.addEventListener('unhandledrejection', ({ reason }) => chain.errors.push(String(reason?.message ?? reason)));

const player = parameters.get('player');
if (LIBRARIES[player]) {
  const script = document.createElement('script');
  script.src = LIBRARIES[player];
  script.onload = async () => {
    await PLAYERS[player](parameters.get('url'));
    chain.ready = true;
  };
  script.onerror = () => chain.errors.push(`${script.src} is missing`);
  document.head.append(script);
}

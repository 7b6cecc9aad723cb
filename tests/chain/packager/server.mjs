// A packager: makes HLS and DASH just in time from mp4 files in a bucket, which it reads by ranges.
//
//   node server.mjs PORT http://127.0.0.1:8091/bucket/ [BYTES OF INDEXES IN MEMORY]
//
// GET /FOLDER/NAME,NAME,.../main.m3u8      HLS, of the objects FOLDER/NAME.mp4
// GET /FOLDER/NAME,NAME,.../manifest.mpd   DASH
// GET /FOLDER/NAME/video.m3u8              playlist of one rendition; and audio.m3u8
// GET /FOLDER/NAME/VERSION/video-init.mp4  init segment; and audio-init.mp4
// GET /FOLDER/NAME/VERSION/video-1.m4s     segment; and audio-1.m4s
//
// VERSION is that of the object (its ETag): a segment is made of the version that its playlist was made of, or is 404.
// It prints "ready" when it listens, and then a line of JSON for each request. SIGTERM stops it.

import { createHash } from 'node:crypto';
import http from 'node:http';

import { dashManifest, mainPlaylist, mediaPlaylist } from './manifests.mjs';
import { loadMovie } from './movie.mjs';
import { ObjectChanged, Upstream, UpstreamError } from './upstream.mjs';

/** Milliseconds for which an index is used for playlists without a look at its object. */
const FRESH = 2_000;
const MOST_RENDITIONS = 16;
const LONG = 'public, max-age=31536000, immutable';
const SHORT = 'public, max-age=5';
const TYPES = {
  m3u8: 'application/vnd.apple.mpegurl',
  mpd: 'application/dash+xml',
  mp4: 'video/mp4',
  m4s: 'video/iso.segment',
};

class NotFound extends UpstreamError {
  constructor(message) {
    super(404, message);
  }
}

/** The indexes of the movies that were used last. */
class Movies {
  #upstream;
  #limit;
  #loaded = new Map(); // key -> { movie, checked }, the one that was used last at the end
  #loading = new Map();

  /** `limit`: bytes of moov boxes (their objects take some times more). */
  constructor(upstream, limit) {
    this.#upstream = upstream;
    this.#limit = limit;
  }

  /** The movie as it is now, or was a moment ago. */
  async current(key, { lookAgain = false } = {}) {
    const found = this.#loaded.get(key);
    if (found && !lookAgain && Date.now() - found.checked < FRESH) return this.#use(key, found);
    return shared(this.#loading, key, async () => {
      let movie;
      try {
        movie = await loadMovie(this.#upstream, key, { unlessEtag: found?.movie.etag });
      } catch (error) {
        if (!(error instanceof ObjectChanged)) throw error;
        movie = await loadMovie(this.#upstream, key); // between its two reads: once again
      }
      return this.#use(key, { movie: movie ?? found.movie, checked: Date.now() });
    });
  }

  /** The movie with this version, as it is in memory or now. */
  async version(key, version) {
    const found = this.#loaded.get(key);
    const movie = found?.movie.version === version ? this.#use(key, found) : await this.current(key);
    if (movie.version !== version) throw new NotFound(`${key} has another version`);
    return movie;
  }

  #use(key, entry) {
    this.#loaded.delete(key);
    this.#loaded.set(key, entry);
    let bytes = 0;
    for (const { movie } of this.#loaded.values()) bytes += movie.weight;
    for (const [oldest, { movie }] of this.#loaded) {
      if (bytes <= this.#limit || oldest === key) break;
      this.#loaded.delete(oldest);
      bytes -= movie.weight;
    }
    return entry.movie;
  }
}

/** Do the same work once for all who want it at the same time. */
function shared(running, name, work) {
  let promise = running.get(name);
  if (!promise) {
    promise = work().finally(() => running.delete(name));
    running.set(name, promise);
  }
  return promise;
}

class Packager {
  #segments = new Map();

  constructor(upstream, limit) {
    this.upstream = upstream;
    this.movies = new Movies(upstream, limit);
  }

  /** What a path names: { body, type, cacheControl }. Raises: UpstreamError. */
  async respond(path) {
    const parts = decoded(path);
    const file = parts.pop();
    const extension = file.slice(file.lastIndexOf('.') + 1);
    if (file === 'main.m3u8' || file === 'manifest.mpd') {
      const renditions = await this.#renditions(parts);
      return answer(file === 'main.m3u8' ? mainPlaylist(renditions) : dashManifest(renditions), extension, SHORT);
    }
    const playlist = /^(video|audio)\.m3u8$/.exec(file);
    if (playlist) {
      const movie = await this.movies.current(objectKey(parts));
      if (!movie.tracks[playlist[1]]) throw new NotFound(`no ${playlist[1]}`);
      return answer(mediaPlaylist({ movie }, playlist[1]), extension, SHORT);
    }
    const segment = /^(video|audio)-(?:(init)\.mp4|([1-9]\d{0,6})\.m4s)$/.exec(file);
    if (!segment || parts.length < 2) throw new NotFound('no such path');
    const version = parts.pop();
    const body = await this.#segment(objectKey(parts), version, segment[1], segment[2] ? 0 : Number(segment[3]));
    if (!body) throw new NotFound('no such segment');
    return answer(body, extension, LONG);
  }

  async #renditions(parts) {
    const names = parts.pop()?.split(',') ?? [];
    if (!names.length || names.length > MOST_RENDITIONS) throw new NotFound('no renditions, or too many');
    const renditions = await Promise.all(
      names.map(async (name) => ({ name, movie: await this.movies.current(objectKey([...parts, name])) })),
    );
    const times = renditions.map(({ movie }) => movie.tracks.video.segments.map((one) => one.time.toFixed(2)).join());
    if (new Set(times).size > 1) throw new UpstreamError(502, 'the key frames of the renditions are not aligned');
    return renditions;
  }

  #segment(key, version, kind, number) {
    return shared(this.#segments, JSON.stringify([key, version, kind, number]), async () => {
      const movie = await this.movies.version(key, version);
      if (!number) return movie.init(kind);
      try {
        return await movie.segment(this.upstream, kind, number);
      } catch (error) {
        if (!(error instanceof ObjectChanged)) throw error;
        const now = await this.movies.current(key, { lookAgain: true });
        if (now.version !== version) throw new NotFound(`${key} has another version`);
        throw error; // a cache has the old index and new media
      }
    });
  }
}

function decoded(path) {
  let parts;
  try {
    parts = path.split('/').slice(1).map(decodeURIComponent);
  } catch {
    throw new NotFound('not a path');
  }
  if (parts.length < 2 || parts.some((part) => !part || part === '.' || part === '..' || /[/\0]/.test(part))) {
    throw new NotFound('not a path');
  }
  return parts;
}

function objectKey(parts) {
  if (!parts.length) throw new NotFound('no object');
  return `${parts.join('/')}.mp4`;
}

function answer(body, extension, cacheControl) {
  return { body: Buffer.from(body), type: TYPES[extension], cacheControl };
}

/** Send a body, or the part of it that the client wants. */
function send(request, response, { body, type, cacheControl }) {
  const etag = `"${createHash('sha256').update(body).digest('hex').slice(0, 32)}"`;
  response.setHeader('ETag', etag);
  response.setHeader('Cache-Control', cacheControl);
  response.setHeader('Accept-Ranges', 'bytes');
  const { range, 'if-range': ifRange, 'if-none-match': ifNoneMatch } = request.headers;
  if (ifNoneMatch && (ifNoneMatch.trim() === '*' || ifNoneMatch.split(',').some((one) => one.trim().replace(/^W\//, '') === etag))) {
    response.writeHead(304).end();
    return 0;
  }
  response.setHeader('Content-Type', type);
  const wanted = range && (!ifRange || ifRange === etag) ? partOf(range, body.length) : null;
  if (wanted === 'none') {
    response.removeHeader('Content-Type');
    response.setHeader('Cache-Control', 'no-store');
    response.writeHead(416, { 'Content-Range': `bytes */${body.length}`, 'Content-Length': 0 }).end();
    return 0;
  }
  let sent = body;
  if (wanted) {
    sent = body.subarray(wanted.first, wanted.last + 1);
    response.statusCode = 206;
    response.setHeader('Content-Range', `bytes ${wanted.first}-${wanted.last}/${body.length}`);
  }
  response.setHeader('Content-Length', sent.length);
  response.end(request.method === 'HEAD' ? undefined : sent);
  return request.method === 'HEAD' ? 0 : sent.length;
}

/** A single range; null if the header has another form, which means the whole body; 'none' if it cannot be satisfied. */
function partOf(range, length) {
  const found = /^bytes=(\d*)-(\d*)$/.exec(range);
  if (!found || (!found[1] && !found[2])) return null;
  if (!found[1]) return Number(found[2]) ? { first: Math.max(0, length - Number(found[2])), last: length - 1 } : 'none';
  const first = Number(found[1]);
  const last = found[2] ? Math.min(Number(found[2]), length - 1) : length - 1;
  if (found[2] && Number(found[2]) < first) return null;
  return first < length ? { first, last } : 'none';
}

const [port, base, limit = `${32 * 2 ** 20}`] = process.argv.slice(2);
if (!/^\d+$/.test(port ?? '') || !base || !/^\d+$/.test(limit)) {
  console.error('usage: node server.mjs PORT http://127.0.0.1:8091/bucket/ [BYTES OF INDEXES IN MEMORY]');
  process.exit(2);
}
let reads = 0;
let read = 0;
const upstream = new Upstream(base, (entry) => {
  reads += 1;
  read += entry.bytes;
  console.log(JSON.stringify({ read: entry.key, range: entry.range, status: entry.status, bytes: entry.bytes }));
});
const packager = new Packager(upstream, Number(limit));
const server = http.createServer(async (request, response) => {
  const path = request.url.replace(/\?.*$/, '');
  let bytes = 0;
  let problem;
  try {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { Allow: 'GET, HEAD', 'Content-Length': 0 }).end();
    } else {
      bytes = send(request, response, await packager.respond(path));
    }
  } catch (error) {
    problem = error instanceof UpstreamError ? error.message : String(error.stack);
    const status = error instanceof UpstreamError ? error.status : 500;
    const text = `${status} ${http.STATUS_CODES[status]}\n`;
    response.writeHead(status, {
      'Content-Type': 'text/plain',
      'Content-Length': text.length,
      'Cache-Control': status === 404 ? 'public, max-age=1' : 'no-store',
    });
    response.end(request.method === 'HEAD' ? undefined : text);
  }
  console.log(JSON.stringify({ method: request.method, path, status: response.statusCode, bytes, problem }));
});
server.keepAliveTimeout = 75_000; // longer than httpd keeps its connections to backends (ttl)
server.listen(Number(port), '127.0.0.1', 1024, () => console.log('ready'));
process.on('SIGTERM', () => {
  server.close(() => {
    upstream.close();
    console.log(JSON.stringify({ reads, read }));
  });
  server.closeIdleConnections();
  setTimeout(() => process.exit(0), 5_000).unref();
});

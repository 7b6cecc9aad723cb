// One version of an mp4 file: its index (the moov box), and how it is divided into segments.

import { createHash } from 'node:crypto';

import { DataStream, Log, MP4BoxBuffer, createFile } from 'mp4box';

import { UpstreamError } from './upstream.mjs';

/** The first read. With the moov box in front (ffmpeg -movflags +faststart) it is usually the only one. */
const FIRST_READ = 64 * 2 ** 10;
/** Seconds of a segment; it ends at the next key frame. */
const SEGMENT_SECONDS = 2;

Log.setLogLevel(Log.LOG_LEVEL_NONE ?? 0);

/** Read the index of an mp4 file in one or two reads. Null: it is still the version `unlessEtag`. */
export async function loadMovie(upstream, key, { unlessEtag = '' } = {}) {
  const start = await upstream.read(key, 0, FIRST_READ - 1, { unlessEtag });
  if (start === null) return null;
  const place = findMoov(start.data, start.total);
  const end = Math.min(place.end, start.total);
  let bytes = start.data.subarray(Math.min(place.start, start.data.length), end);
  if (end > start.data.length) {
    const from = Math.max(place.start, start.data.length);
    const rest = await upstream.read(key, from, end - 1, { etag: start.etag });
    bytes = Buffer.concat([bytes, rest.data]);
  }
  return new Movie(key, start.etag, bytes, start.total);
}

/** Where the moov box is. If it is behind the media data: from there to the end of the file. */
function findMoov(data, total) {
  for (let at = 0; at + 16 <= data.length; ) {
    let size = data.readUInt32BE(at);
    const type = data.toString('latin1', at + 4, at + 8);
    if (size === 1) size = Number(data.readBigUInt64BE(at + 8));
    else if (size === 0) size = total - at;
    if (size < 8) break;
    if (type === 'moov') return { start: at, end: at + size };
    at += size;
    if (type === 'mdat' && at < total) return { start: at, end: total };
  }
  throw new UpstreamError(502, 'no moov box where one is expected: not an mp4 file');
}

export class Movie {
  /** `bytes`: from the file, beginning with the moov box. */
  constructor(key, etag, bytes, total) {
    this.key = key;
    this.etag = etag;
    this.weight = bytes.length;
    /** Part of each segment's URL: segments of two versions never have the same URL. */
    this.version = createHash('sha256').update(etag).digest('hex').slice(0, 12);
    const file = parsed(bytes);
    const info = file.getInfo();
    this.tracks = {};
    for (const [kind, track] of [['video', info.videoTracks[0]], ['audio', info.audioTracks[0]]]) {
      if (track) this.tracks[kind] = new Track(kind, file, track);
    }
    const { video, audio } = this.tracks;
    if (!video) throw new UpstreamError(502, 'no video track');
    for (const track of Object.values(this.tracks)) {
      for (const { offset, size } of track.samples) {
        if (offset + size > total) throw new UpstreamError(502, 'a sample is behind the end of the file');
      }
    }
    video.divide(video.keyFrameTimes(SEGMENT_SECONDS));
    audio?.divide(video.segments.map((segment) => segment.time));
    // An init segment for each track. (Without a function onSegment mp4box writes a warning.)
    file.onSegment = () => {};
    for (const track of Object.values(this.tracks)) file.setSegmentOptions(track.id, null, {});
    for (const { id, buffer } of file.initializeSegmentation('per-track')) {
      Object.values(this.tracks).find((track) => track.id === id).init = Buffer.from(buffer);
    }
  }

  /** Seconds. */
  get duration() {
    return Math.max(...Object.values(this.tracks).map((track) => track.end));
  }

  /** The init segment of a track; null if there is no such track. */
  init(kind) {
    return this.tracks[kind]?.init ?? null;
  }

  /** Read a segment, counted from 1, with one range; null if there is no such segment. */
  async segment(upstream, kind, number) {
    const track = this.tracks[kind];
    const segment = track?.segments[number - 1];
    if (!segment) return null;
    // The samples of the other track are between those of this one. A range for each run of samples would be a request each:
    // some dozens for a segment, whose headers alone are longer than what is read in vain.
    const first = Math.min(...segment.samples.map((sample) => sample.offset));
    const end = Math.max(...segment.samples.map((sample) => sample.offset + sample.size));
    const { data } = await upstream.read(this.key, first, end - 1, { etag: this.etag });
    const body = segment.samples.map(({ offset, size }) => data.subarray(offset - first, offset - first + size));
    return Buffer.concat([...track.fragmentHeader(segment.samples, number), ...body]);
  }
}

/** An mp4box file with the index only. */
function parsed(bytes) {
  const file = createFile();
  let error = null;
  file.onError = (module, message) => {
    error ??= `${module}: ${message}`;
  };
  let ready = false;
  file.onReady = () => {
    ready = true;
  };
  // mp4box expects a file that begins with ftyp.
  const ftyp = Buffer.from('00000018667479706d703432000000006d70343269736f6d', 'hex');
  try {
    file.appendBuffer(MP4BoxBuffer.fromArrayBuffer(new Uint8Array(ftyp).buffer, 0));
    file.appendBuffer(MP4BoxBuffer.fromArrayBuffer(new Uint8Array(bytes).buffer, ftyp.length));
    file.flush();
  } catch (thrown) {
    error ??= String(thrown);
  }
  if (error || !ready) throw new UpstreamError(502, `the moov box cannot be used (${error ?? 'it is not whole'})`);
  return file;
}

class Track {
  constructor(kind, file, info) {
    this.kind = kind;
    this.id = info.id;
    this.timescale = info.timescale;
    this.codec = info.codec;
    this.width = info.video?.width ?? 0;
    this.height = info.video?.height ?? 0;
    this.channels = info.audio?.channel_count ?? 0;
    this.sampleRate = info.audio?.sample_rate ?? 0;
    this.language = info.language && info.language !== 'und' ? info.language : '';
    // An edit list says which moment of the media is shown first: later than 0 if frames are reordered, or AAC is primed.
    this.shift = Math.max(0, info.edits?.find((edit) => edit.media_time >= 0)?.media_time ?? 0);
    this.samples = file.getTrackSamplesInfo(info.id);
    if (!this.samples.length) throw new UpstreamError(502, `the ${kind} track has no samples`);
    this.createMoof = (samples) => file.createMoof(samples);
    this.segments = [];
  }

  /** When a sample is shown, in seconds. */
  time(sample) {
    return (sample.cts - this.shift) / this.timescale;
  }

  get end() {
    return Math.max(...this.samples.slice(-20).map((sample) => this.time(sample) + sample.duration / this.timescale));
  }

  get frameRate() {
    return this.samples.length / this.end;
  }

  /** The times of key frames at which segments begin that are at least this long. */
  keyFrameTimes(seconds) {
    const times = [];
    for (const sample of this.samples) {
      const time = this.time(sample);
      if (sample.is_sync && (!times.length || time >= times.at(-1) + seconds - 0.001)) times.push(time);
    }
    return times;
  }

  /** Divide the samples into segments that begin at these times; those that have no sample are left out. */
  divide(times) {
    let at = 0;
    times.forEach((time, index) => {
      const next = times[index + 1] ?? Infinity;
      const samples = [];
      // In the order of decoding: a segment ends before the key frame with which the next one begins.
      while (at < this.samples.length) {
        const sample = this.samples[at];
        if (samples.length && this.#begins(sample, next)) break;
        samples.push(sample);
        at += 1;
      }
      if (samples.length) this.segments.push({ samples, time: Math.max(0, Math.min(...samples.map((one) => this.time(one)))) });
    });
    this.segments.forEach((segment, index) => {
      segment.duration = (this.segments[index + 1]?.time ?? this.end) - segment.time;
      segment.bytes = segment.samples.reduce((sum, sample) => sum + sample.size, 0);
    });
  }

  /** Whether the segment from this time on begins with this sample: the key frame, or the sound that is heard at that time. */
  #begins(sample, time) {
    if (this.kind === 'video') return sample.is_sync && this.time(sample) >= time - 0.0001;
    return this.time(sample) + sample.duration / this.timescale > time + 0.0001;
  }

  /** Bits per second of the largest segment, and of all of them. */
  get peakRate() {
    return Math.ceil(Math.max(...this.segments.map((segment) => (segment.bytes * 8) / segment.duration)));
  }

  get averageRate() {
    return Math.ceil((this.segments.reduce((sum, segment) => sum + segment.bytes, 0) * 8) / this.end);
  }

  /** The moof box, and the header of the mdat box. The same bytes each time. */
  fragmentHeader(samples, number) {
    const moof = this.createMoof(samples);
    moof.mfhd.sequence_number = number;
    const [trun] = moof.trafs[0].truns;
    trun.version = samples.some((sample) => sample.cts < sample.dts) ? 1 : 0;
    const stream = new DataStream();
    moof.write(stream);
    stream.adjustUint32(trun.data_offset_position, moof.size + 8);
    const mdat = Buffer.alloc(8);
    mdat.writeUInt32BE(8 + samples.reduce((sum, sample) => sum + sample.size, 0), 0);
    mdat.write('mdat', 4, 'latin1');
    return [Buffer.from(stream.buffer), mdat];
  }
}
